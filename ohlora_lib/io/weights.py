"""Reads and writes network weights under their published names.

The architecture is read off tensor names and shapes; nothing is asked of the user. `.safetensors`
is ours; `.pth` files are read by `weight_files`, which executes nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.tensors import read_networks
from ohlora_lib.nets import Discriminator, Generator, PropertyCNN
from ohlora_lib.nets.generator import EMBEDDING_DIM
from ohlora_lib.nets.property_cnn import CHANNELS, HEAD_WIDTH

Net = TypeVar("Net", bound=nn.Module)
PREFERRED = {  # which of the networks in one `.pth` is meant; GenForce's holds three
    "generator": ("generator_smooth", "generator_ema", "generator"),
    "discriminator": ("discriminator",),
}

KINDS = {  # tensors that only this kind of network has
    "generator": ("synthesis.layer0.const",),
    "discriminator": ("input0.weight",),
    "property_cnn": ("conv1.0.weight", "fc_final.0.weight"),
}
UNFIT = (  # what building a network from damaged shapes or metadata raises
    *(IndexError, KeyError, TypeError, OverflowError, ZeroDivisionError, RuntimeError),
    MemoryError,
)


def save_weights(net: nn.Module, path: Path | str, **facts: str) -> None:
    """Writes a network as `.safetensors`, whole or not at all; facts go into its metadata.

    Args:
        net: Generator, discriminator or property CNN.
        path: File to write.
        **facts: Short texts, for example how the weights were made.
    """
    save_tensors(net, net.state_dict(), path, facts)


def save_tensors(
    net: nn.Module, tensors: Mapping[str, Tensor], path: Path | str, facts: Mapping[str, str]
) -> None:
    """Writes a network's tensors as they are given, in whatever number format, and facts."""
    facts = dict(facts)
    if isinstance(net, PropertyCNN):
        facts |= {
            "property": net.prop,
            "image_px": str(net.image_px),
            "width": str(net.width),
            "crop": json.dumps(net.crop),
        }
    tensors = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}  # untied
    facts = {**facts, "kind": kind_of(tensors)}
    write_atomic(Path(path), save(tensors, metadata=facts))


def read_tensors(
    path: Path | str, kind: str | None = None, *, network: str = ""
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads tensors and metadata of a `.safetensors` or `.pth` file.

    Args:
        path: The file.
        kind: Which kind of network is wanted, where a `.pth` holds several; None takes the first.
        network: Or which one, by its name in the file.

    Raises:
        ValueError: If the file is missing, truncated, not a weight file, or holds code.
    """
    path = Path(path)
    tables, facts = read_networks(path)
    if network and network not in tables:
        there = f"it holds {list(tables)}" if any(tables) else "it holds one without a name"
        raise ValueError(f"{path}: holds no network {network!r}; {there}. Correct --network.")
    wanted = PREFERRED.get(kind or "", ()) if kind else sum(PREFERRED.values(), ())
    known = [
        name for name, tensors in tables.items() if _kind(tensors) in ({kind} if kind else KINDS)
    ]
    order = [*(name for name in wanted if name in known), *known, *tables]
    return tables[network or order[0]], facts


def _kind(tensors: Mapping[str, Tensor]) -> str | None:
    marks = {kind: all(name in tensors for name in names) for kind, names in KINDS.items()}
    return next((kind for kind, here in marks.items() if here), None)


def kind_of(tensors: Mapping[str, Tensor]) -> str:
    """Says which network a table of tensors is: generator, discriminator or property_cnn.

    Raises:
        ValueError: If it is none of them.
    """
    kind = _kind(tensors)
    if kind:
        return kind
    raise ValueError(
        f"these tensors are no generator, discriminator or property CNN; "
        f"the first is {next(iter(tensors), None)!r}"
    )


def _shape(tensors: Mapping[str, Tensor], name: str) -> torch.Size:
    if name not in tensors:
        raise ValueError(f"tensor {name!r} is missing")
    return tensors[name].shape


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many of the numbered names are there, counting from the first number found."""
    first = next((k for k in (0, 1) if pattern.format(k) in tensors), 0)
    k = first
    while pattern.format(k) in tensors:
        k += 1
    return k - first


def _feature_maps(channels: Mapping[int, int]) -> dict[str, int]:
    """The rule min(base / px, max) that gives these channels at these resolutions."""
    largest = max(channels.values())
    base = max((px * n for px, n in channels.items() if n > 1), default=1)  # 1 is never less
    return {"fmaps_base": base, "fmaps_max": largest}


def _generator(tensors: Mapping[str, Tensor], _: Mapping[str, str]) -> Generator:
    blocks = _count(tensors, "synthesis.output{}.weight")
    channels = {4 * 2**k: _shape(tensors, f"synthesis.output{k}.weight")[1] for k in range(blocks)}
    properties = 0
    if "mapping.label_weight" in tensors:
        properties = tensors["mapping.label_weight"].shape[0]
    width, z_dim = _shape(tensors, "mapping.dense0.weight")
    wide = 0
    if "mapping.dense_new0.weight" in tensors:
        wide = tensors["mapping.dense_new0.weight"].shape[0]
    return Generator(
        4 * 2 ** (blocks - 1),
        z_dim=z_dim - (EMBEDDING_DIM if properties else 0),
        w_dim=width,
        num_properties=properties,
        wide_dim=wide,
        **_feature_maps(channels),
    )


def _discriminator(tensors: Mapping[str, Tensor], _: Mapping[str, str]) -> Discriminator:
    blocks = _count(tensors, "input{}.weight")
    image_px = 4 * 2 ** (blocks - 1)
    channels = {image_px // 2**k: _shape(tensors, f"input{k}.weight")[0] for k in range(blocks)}
    hidden = channels[2] = _shape(tensors, f"layer{2 * blocks - 1}.weight")[0]
    joined = _shape(tensors, f"layer{2 * blocks}.weight")[1]
    return Discriminator(image_px, num_properties=joined - hidden, **_feature_maps(channels))


def _property_cnn(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> PropertyCNN:
    if "property" in facts:
        return PropertyCNN(
            facts["property"],
            image_px=int(facts["image_px"]),
            width=float(facts["width"]),
            crop=json.loads(facts["crop"]),
        )
    width = _shape(tensors, "conv1.0.weight")[0] / CHANNELS[0]
    flat = _shape(tensors, "fc1.0.weight")[1]
    for prop in ("gender", "age", "quality", "glass"):
        net = PropertyCNN(prop, width=width)
        same = net.fc1[0].in_features == flat
        if same and len(net.pools) == _count(tensors, "conv{}.0.weight"):
            return net
    raise ValueError(
        f"a property CNN with {flat} flattened features (width {width:g} of {HEAD_WIDTH}) is none "
        f"of the published ones at 256 px, and the file has no metadata that says more"
    )


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "generator": _generator,
    "discriminator": _discriminator,
    "property_cnn": _property_cnn,
}


def load_net(path: Path | str, kind: str) -> nn.Module:
    """Builds the network a weight file describes and fills it.

    Raises:
        ValueError: If the file is unreadable, another kind, or its tensors do not fit; names one.
    """
    tensors, facts = read_tensors(path, kind)
    return build(tensors, facts, kind, source=str(path))


def build(
    tensors: Mapping[str, Tensor], facts: Mapping[str, str], kind: str = "", *, source: str
) -> nn.Module:
    """Builds the network that tensors and metadata describe.

    Args:
        tensors: By published name.
        facts: Metadata of the file; a property CNN of unpublished size needs it.
        kind: Which kind it must be; empty for whatever it is.
        source: Begins error messages.

    Raises:
        ValueError: If it is another kind, or a tensor is missing, too many or of another shape.
    """
    with one_line(source):
        found = check_fit(tensors, facts, kind)
        net = BUILDERS[found](tensors, facts)
        net.load_state_dict(dict(tensors))
    return net.eval()


@contextmanager
def one_line(source: str) -> Iterator[None]:
    """Turns what building from damaged tensors raises into ValueErrors that name the file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    except UNFIT as error:
        raise ValueError(
            f"{source}: its tensors and metadata describe no network ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:80]}). Fetch it again."
        ) from error


def check_fit(tensors: Mapping[str, Tensor], facts: Mapping[str, str], kind: str = "") -> str:
    """Says which network tensors and metadata describe, from shapes alone; no memory is taken."""
    found = kind_of(tensors)
    if kind and found != kind:
        raise ValueError(f"holds a {found}, not a {kind}. Give the file of a {kind}.")
    with torch.device("meta"):
        _check_fit(BUILDERS[found](tensors, facts), tensors)
    stored = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors.values()}
    there = sum(tensor.untyped_storage().nbytes() for tensor in stored.values())
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > 2 * there:  # tied tensors are stored once
        raise ValueError(
            f"its tensors claim {claimed:,} bytes and repeat {there:,} to fill them. "
            f"Fetch it again, from whom you trust."
        )
    return found


def check_weights(path: Path | str, kind: str) -> None:
    """Reads a weight file and builds nothing.

    Raises:
        ValueError: As `load_net`, or if a number is not finite.
    """
    tensors, facts = read_tensors(path, kind)
    with one_line(str(path)):
        check_fit(tensors, facts, kind)
        bad = [
            name for name, tensor in tensors.items() if not torch.isfinite(tensor.float()).all()
        ]
        if bad:
            raise ValueError(f"tensor {bad[0]!r} has numbers that are not finite. Fetch it again.")


def _check_fit(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise ValueError(
                f"tensor {name!r} is {given.get(name, 'missing')}, "
                f"the network that the other tensors describe needs {wanted.get(name, 'none')}"
            )


def load_generator(path: Path | str) -> Generator:
    """Reads a generator, plain or split, with or without properties, at any size."""
    return load_net(path, "generator")


def load_discriminator(path: Path | str) -> Discriminator:
    """Reads a discriminator, with or without properties, at any size."""
    return load_net(path, "discriminator")


def load_property_cnn(path: Path | str) -> PropertyCNN:
    """Reads a property CNN; published `.pth` files carry no metadata and are known by shape."""
    return load_net(path, "property_cnn")


def split_mapping(base: Generator, wide_dim: int, generator: torch.Generator) -> Generator:
    """Injects a plain base into a generator with a split mapping.

    Args:
        base: Pretrained generator with a plain mapping.
        wide_dim: Width of the new branch.
        generator: Random state that draws the new branch, on the CPU.

    Returns:
        A new generator: all of the base's weights, and the new branch as published.

    Raises:
        ValueError: If the base is split already.
    """
    if base.wide_dim:
        raise ValueError("the base has a split mapping already; start from a plain one")
    net = Generator(
        base.image_px,
        z_dim=base.z_dim,
        w_dim=base.w_dim,
        num_properties=base.num_properties,
        fmaps_base=base.fmaps_base,
        fmaps_max=base.fmaps_max,
        wide_dim=wide_dim,
    )
    net.load_state_dict(base.state_dict(), strict=False)
    net.mapping.reset_new_branch(generator)
    return net


def describe(path: Path | str) -> dict[str, Any]:
    """Facts of a weight file: kind, sizes, parameters, metadata.

    Raises:
        ValueError: As `load_net`.
    """
    tables, facts = read_networks(path)
    tensors, facts = read_tensors(path)
    net = build(tensors, facts, source=str(path))
    megabytes = math.ceil(Path(path).stat().st_size / 1e4) / 100
    taken = next(name for name, table in tables.items() if table.keys() == tensors.keys())
    also = {"network": taken, "networks": list(tables)} if len(tables) > 1 else {}
    bad = sum(int((~torch.isfinite(tensor.float())).sum()) for tensor in tensors.values())
    also |= {"numbers that are not finite": bad} if bad else {}
    found = {"kind": kind_of(tensors), **sizes(net), "megabytes": megabytes, **also}
    return {**facts, **found}


def sizes(net: nn.Module) -> dict[str, Any]:
    """What a network was built with, and its number of parameters."""
    names = ("image_px", "z_dim", "w_dim", "num_properties", "fmaps_base", "fmaps_max")
    names += ("wide_dim", "prop", "width", "crop")
    found = {name: getattr(net, name) for name in names if hasattr(net, name)}
    return found | {"parameters": sum(p.numel() for p in net.parameters())}
