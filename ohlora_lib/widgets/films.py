"""Films: a walk through latents, and the same latents through a training.

MP4 needs `imageio-ffmpeg` (`pip install 'ohlora[video]'`); animated WebP needs nothing.
Axes: T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from ohlora_lib.base.base import load_base
from ohlora_lib.io.disk import atomic_path
from ohlora_lib.io.pictures import open_image
from ohlora_lib.io.weights import load_generator
from ohlora_lib.report.tables import grids_over_time
from ohlora_lib.study.run_files import read_config
from ohlora_lib.study.run_folder import check_inputs, project_root, read_summary
from ohlora_lib.widgets.explorer import MOST_SEED, Explorer, Latent

SUFFIXES = (".mp4", ".webp")
LEAST_SIDE = 256  # smaller frames are enlarged, pixels


def explorer_of(folder: Path) -> Explorer:
    """The base and the result of a fine-tuning, side by side.

    Raises:
        ValueError: If the run or its base is not finished; one line.
    """
    read_summary(folder)
    named = read_config(folder).get("base_run")
    if not isinstance(named, str):
        raise ValueError(f"{folder / 'config.json'}: names no base_run. Run the stage again.")
    before = load_base(check_inputs({"base_run": named}, project_root())["base_run"])
    after = load_generator(folder / "generator.safetensors")
    return Explorer({"before": before.generator, "after": after})


def check_walk(seeds: Sequence[int]) -> None:
    """Raises ValueError unless seeds are two or more, each from 0 to a million."""
    if len(seeds) < 2 or not all(0 <= seed <= MOST_SEED for seed in seeds):
        raise ValueError(
            f"seeds are {list(seeds)}; a walk needs at least two, from 0 to {MOST_SEED}"
        )


def latent_walk(
    explorer: Explorer, seeds: Sequence[int], *, steps: int = 24
) -> Iterator[np.ndarray]:
    """Goes from seed to seed in style space and back to the first.

    Args:
        explorer: Its generators are shown side by side.
        seeds: At least two.
        steps: Frames from one seed to the next.

    Yields:
        Frames, uint8 (H, W, 3), `steps` times as many as seeds.

    Raises:
        ValueError: If there are fewer than two seeds.
    """
    check_walk(seeds)
    for seed, other in pairwise([*seeds, seeds[0]]):
        for step in range(steps):
            way = (1 - np.cos(np.pi * step / steps)) / 2  # slow at the seeds
            view = explorer.view(Latent(seed=seed, other_seed=other, way=float(way)))
            yield np.concatenate(list(view.images.values()), axis=1)


def training_film(folder: Path, *, hold: int = 6) -> Iterator[np.ndarray]:
    """The grids of the same latents that a fine-tuning saved, first to last.

    Args:
        folder: Run folder.
        hold: Frames each grid stays.

    Yields:
        Frames, uint8 (H, W, 3).

    Raises:
        ValueError: If it saved none.
    """
    grids = list(grids_over_time(folder, most=10**6).values())
    if not grids:
        if not folder.is_dir():
            read_summary(folder)  # says how to make it
        raise ValueError(f"{folder}: holds no grids of a fine-tuning, images/fixed-*.png")
    for path in grids:
        try:
            with open_image(path) as picture:
                frame = np.asarray(picture.convert("RGB"))
        except ValueError as error:
            raise ValueError(f"{error}. Run the stage again, or take the file away.") from error
        yield from [frame] * hold


def write_film(frames: Iterable[np.ndarray], path: Path | str, *, fps: int = 12) -> int:
    """Writes frames as a film, whole or not at all.

    Args:
        frames: uint8, (H, W, 3) each, all of one size.
        path: `.mp4` or `.webp`.
        fps: Frames a second.

    Returns:
        Number of frames.

    Raises:
        ValueError: If the suffix is another, MP4 is asked for without its library, or there are no
            frames; one line.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: the suffix must be one of {list(SUFFIXES)}")
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; give the name of a file")
    pictures = (_enlarged(frame) for frame in frames)
    with atomic_path(path) as temporary:
        return (_write_mp4 if path.suffix == ".mp4" else _write_webp)(pictures, temporary, fps)


def _enlarged(frame: np.ndarray) -> Image.Image:
    picture = Image.fromarray(frame)
    times = max(1, LEAST_SIDE // min(picture.size))
    size = (picture.width * times // 2 * 2, picture.height * times // 2 * 2)  # MP4 wants even ones
    return picture.resize(size, Image.Resampling.BICUBIC) if size != picture.size else picture


def _write_webp(pictures: Iterator[Image.Image], path: Path, fps: int) -> int:
    every = list(pictures)
    if not every:
        raise ValueError("the film has no frames")
    options = {"duration": round(1000 / fps), "loop": 0, "quality": 80}
    every[0].save(path, "webp", save_all=True, append_images=every[1:], **options)
    return len(every)


def _write_mp4(pictures: Iterator[Image.Image], path: Path, fps: int) -> int:
    try:
        from imageio_ffmpeg import write_frames
    except ImportError as error:
        raise ValueError(
            "MP4 needs imageio-ffmpeg. Install it with: pip install 'ohlora[video]'; or give a "
            "name that ends in .webp"
        ) from error
    writer, count = None, 0
    for picture in pictures:
        if writer is None:
            writer = write_frames(str(path), picture.size, fps=fps, macro_block_size=2)
            writer.send(None)
        writer.send(np.ascontiguousarray(picture))
        count += 1
    if writer is None:
        raise ValueError("the film has no frames")
    writer.close()
    return count
