"""An independent judge: the user's own ONNX classifiers, which score the same samples.

Axes: N images, H image height, B batch, C columns of an output.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from ohlora_lib.io.disk import check_file, complaint
from ohlora_lib.study.look import parse_output
from ohlora_lib.study.parameters import EvaluateSamples
from ohlora_lib.study.records import project_root, read_json, root_of

BATCH = 32  # images per call, for a model that accepts any number
ROUNDING = 1e-4  # how far a sum of probabilities may lie outside 0 to 1
ACTIVATIONS = {"none": lambda x: x, "softmax": lambda x: x.softmax(1), "sigmoid": torch.sigmoid}


class OnnxModel:
    """One image classifier on the CPU; the parameters describe the input it expects.

    Raises:
        ValueError: If onnxruntime is not installed, or the file is not an ONNX model with one
            float32 input, (N, 3, H, W) or (N, H, W, 3).
    """

    def __init__(self, path: Path, config: EvaluateSamples) -> None:
        check_file(path, "ONNX model")
        try:
            import onnxruntime as ort  # an extra
        except ImportError as error:
            raise ValueError("ONNX models need onnxruntime: pip install 'ohlora[onnx]'") from error
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 4
        with complaint(path, "not a readable ONNX model", "Fetch it again."):
            self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.path, self.config = path, config
        self.input, *others = self.session.get_inputs()
        axes = [size if isinstance(size, int) else 0 for size in self.input.shape]  # 0: any size
        self.channels_last = len(axes) == 4 and axes[3] == 3 != axes[1]
        image = axes[1:] if self.channels_last else [*axes[2:], *axes[1:2]]
        if others or len(axes) != 4 or image[2] not in {0, 3} or "(float)" not in self.input.type:
            inputs = [f"{given.type} {given.shape}" for given in (self.input, *others)]
            raise ValueError(
                f"{path}: its input is {', '.join(inputs)}; it must be one tensor(float), "
                "(N, 3, H, W) or (N, H, W, 3). Export the model that way."
            )
        self.batch, self.size = axes[0] or BATCH, [px or config.onnx_px for px in image[:2]]

    def pixels(self, images: Tensor) -> np.ndarray:
        """Converts uint8 images (B, H, H, 3) to the model's float32 input."""
        config, px = self.config, images.shape[1]
        top, bottom, left, right = (round(share * px) for share in config.onnx_crop)
        x = images[:, top:bottom, left:right].permute(0, 3, 1, 2).float()  # (B, 3, rows, columns)
        size = [new or old for new, old in zip(self.size, x.shape[2:], strict=True)]
        x = F.interpolate(x, size, mode="bilinear", antialias=True)
        x = x.flip(1) if config.onnx_channels == "BGR" else x
        mean, std = (x.new_tensor(v).view(3, 1, 1) for v in (config.onnx_mean, config.onnx_std))
        x = (x - mean) / std
        return (x.permute(0, 2, 3, 1) if self.channels_last else x).contiguous().cpu().numpy()

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Float outputs (N, C) by name, for uint8 images (N, H, H, 3)."""
        kinds = ("tensor(float", "tensor(double")
        names = [o.name for o in self.session.get_outputs() if o.type.startswith(kinds)]
        remedy = "Set onnx_px if the model leaves its input size open."
        parts = []
        for first in range(0, len(images), self.batch):
            rows = torch.arange(first, first + self.batch) % len(images)  # pads the last batch
            pixels = self.pixels(images[rows.to(images.device)])
            with complaint(self.path, f"fails on input {pixels.shape}", remedy):
                values = self.session.run(names, {self.input.name: pixels})
                parts.append([torch.from_numpy(v).double().view(self.batch, -1) for v in values])
        found = (torch.cat(values)[: len(images)] for values in zip(*parts, strict=True))
        return dict(zip(names, found, strict=True))


class IndependentJudge:
    """Scores properties by the columns of the models' outputs that `onnx_outputs` names."""

    def __init__(self, config: EvaluateSamples, root: Path) -> None:
        self.config = config
        self.models = [OnnxModel(root / file, config) for file in config.onnx_files]

    def table(self, images: Tensor) -> pd.DataFrame:
        """Scores of uint8 images (N, H, H, 3), one column `<property>_score` per property.

        ValueError if a column does not exist, or a score lies outside 0 to 1.
        """
        found = [output for model in self.models for output in model.outputs(images).items()]
        texts = self.config.onnx_outputs.items()
        return pd.DataFrame({f"{prop}_score": self._score(found, text) for prop, text in texts})

    def _score(self, found: list[tuple[str, Tensor]], text: str) -> np.ndarray:
        wanted, how = parse_output(text), self.config.onnx_activation
        values = [v for _, v in found][wanted.output] if wanted.output < len(found) else None
        if values is None or wanted.columns.stop > values.shape[1]:
            there = [f"{k}[0:{v.shape[1]}] ({name})" for k, (name, v) in enumerate(found)]
            raise ValueError(f"onnx_outputs {text!r} is not among {', '.join(there)}; correct it")
        score = ACTIVATIONS[how](values)[:, wanted.columns].sum(1)
        score = 1 - score if wanted.inverse else score
        good = (score >= -ROUNDING) & (score <= 1 + ROUNDING)  # false for NaN
        if not good.all() or (how, values.shape[1]) == ("softmax", 1):
            worst = score[good.int().argmin()].item()
            raise ValueError(
                f"onnx_outputs {text!r} is {worst:.4g} after onnx_activation {how!r}, but scores "
                "range from 0 to 1. Choose none, softmax (of two columns or more) or sigmoid."
            )
        return score.clamp(0, 1).numpy()


def load_independent(config: EvaluateSamples, root: Path | None = None) -> IndependentJudge | None:
    """Loads the models that the parameters name and tries them on two noise images.

    Returns None if the parameters name no model. Paths are relative to the project's root.
    Raises a one-line ValueError if a model does not fit.
    """
    if not config.onnx_files:
        return None
    judge = IndependentJudge(config, root or project_root())
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    judge.table(torch.from_numpy(noise))
    return judge


def scored_by(config: EvaluateSamples, base_run: Path, cnn_run: Path) -> str:
    """Names the models, and warns if the base or the CNNs learned from drawn faces."""
    base, cnns = (read_json(folder / "config.json") for folder in (base_run, cnn_run))
    population = read_json(root_of(cnn_run) / cnns.get("population_run", "") / "config.json")
    said = f"Scored by {', '.join(Path(file).name for file in config.onnx_files)}."
    if base.get("source") == "shipped" or population.get("source") == "faces":
        said += " Such a judge is meant for photographs of people; these faces are drawn."
    return said
