"""Reads, writes and converts network weights under their published names.

The architecture is inferred from tensor names and shapes, so nobody has to specify it.
"""

import io
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ohlora_lib.io.disk import complaint, write_atomic
from ohlora_lib.io.stylegan2 import layout as stylegan2
from ohlora_lib.io.stylegan2.layout import Shapes
from ohlora_lib.io.stylegan2.rosinality import official
from ohlora_lib.io.tensors import read_networks
from ohlora_lib.nets import CompactCNN, Discriminator, Generator, PropertyCNN
from ohlora_lib.nets.property_cnn import CHANNELS
from ohlora_lib.nets.style_generator import StyleGenerator
from ohlora_lib.nets.stylegan1.generator import EMBEDDING_DIM
from ohlora_lib.nets.stylegan2 import Discriminator as StyleGAN2Discriminator
from ohlora_lib.nets.stylegan2 import Generator as StyleGAN2Generator

PREFERRED = (  # of several networks in one file
    *("generator_smooth", "generator_ema", "G_ema", "g_ema", "generator", "discriminator"),
    *("D", "d"),
)
DOES_NOT_FIT = "its tensors do not fit a StyleGAN2"
ARCHITECTURES = {
    Generator: "stylegan1", Discriminator: "stylegan1",
    StyleGAN2Generator: "stylegan2", StyleGAN2Discriminator: "stylegan2",
    PropertyCNN: "published", CompactCNN: "compact",
}  # fmt: skip


def save_weights(net: nn.Module, path: Path | str, **facts: str) -> None:
    """Writes a network as `.safetensors`, atomically, with the facts in its metadata."""
    write_network(net, net.state_dict(), Path(path), facts)


def write_network(
    net: nn.Module, tensors: Mapping[str, Tensor], path: Path, facts: Mapping[str, str]
) -> None:
    """Writes a network's tensors in the number format that they have."""
    tensors = {
        name: tensor.detach().cpu().clone().contiguous()  # untied
        for name, tensor in tensors.items()
        if tensor.is_floating_point()  # batch normalisation's counter of batches is unused
    }
    if path.suffix == ".pth":  # cannot store facts
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        write_atomic(path, buffer.getvalue())
        return
    own = {"kind": kind_of(tensors), "architecture": ARCHITECTURES[type(net)]}
    if isinstance(net, PropertyCNN | CompactCNN):
        own |= {"image_px": str(net.image_px), "width": str(net.width)}
    if isinstance(net, PropertyCNN):
        own |= {"property": net.prop, "crop": json.dumps(net.crop)}
    if isinstance(net, CompactCNN):
        own |= {"properties": json.dumps(net.properties)}
    if isinstance(net, StyleGAN2Generator | StyleGAN2Discriminator):
        own |= {"conv_clamp": str(net.conv_clamp)}
    if isinstance(net, StyleGAN2Discriminator):
        own |= {"mbstd_group_size": str(net.mbstd_group_size)}
    write_atomic(path, _in_order(save(tensors, metadata={**facts, **own})))


def _in_order(data: bytes) -> bytes:
    """Sorts the metadata in .safetensors data, so that the same network gives the same bytes."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return data[:8] + text.ljust(size) + data[8 + size :]


def read_tensors(
    path: Path | str, kind: str = "", *, network: str = ""
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads tensors by published name, and metadata, from a `.safetensors` or `.pth` file.

    `kind` or `network`, a name in the file, selects one of several networks in a `.pth`.
    ValueError if the file is missing, truncated, not a weight file, or contains code.
    """
    tables, facts = read_networks(path)
    taken = choose_network(tables, path, kind, network)
    with complaint(path, DOES_NOT_FIT):
        return official(tables[taken]), facts.get(taken, {})


def choose_network(
    tables: Mapping[str, Mapping[str, Tensor]], path: Path | str, kind: str = "", network: str = ""
) -> str:
    """Returns the name of the network to read; GenForce's files hold three."""
    if network and network not in tables:
        holds = "one network, which has no name" if [*tables] == [""] else f"{[*tables]}"
        remedy = "Leave out --network" if len(tables) == 1 else "Correct --network"
        raise ValueError(f"{path}: holds {holds}, not {network!r}. {remedy}.")
    fitting = [name for name in tables if kind_of(tables[name]) in ({kind} if kind else KINDS)]
    preferred = [name for name in PREFERRED if name in fitting]
    return network or [*preferred, *fitting, *tables][0]


def kind_of(tensors: Mapping[str, Any]) -> str:
    """Recognises a network by a tensor that only its kind has; empty if it is unknown."""
    return next((kind for kind, (marks, _) in KINDS.items() if marks & tensors.keys()), "")


def _count(shapes: Shapes, pattern: str) -> int:
    return sum(bool(re.fullmatch(pattern, name)) for name in shapes)


def _generator(shapes: Shapes, _: Mapping[str, str]) -> Generator:
    blocks = _count(shapes, r"synthesis\.output\d+\.weight")
    channels = {4 * 2**k: shapes[f"synthesis.output{k}.weight"][1] for k in range(blocks)}
    properties = shapes.get("mapping.label_weight", (0,))[0]
    w_dim, z_dim = shapes["mapping.dense0.weight"]
    return Generator(
        4 * 2 ** (blocks - 1),
        z_dim=z_dim - (EMBEDDING_DIM if properties else 0),
        w_dim=w_dim,
        num_properties=properties,
        wide_dim=shapes.get("mapping.dense_new0.weight", (0,))[0],
        **stylegan2.channel_rule(channels, "fmaps"),
    )


def _discriminator(shapes: Shapes, _: Mapping[str, str]) -> Discriminator:
    blocks = _count(shapes, r"input\d+\.weight")
    image_px = 4 * 2 ** (blocks - 1)
    channels = {image_px // 2**k: shapes[f"input{k}.weight"][0] for k in range(blocks)}
    hidden = channels[2] = shapes[f"layer{2 * blocks - 1}.weight"][0]
    properties = shapes[f"layer{2 * blocks}.weight"][1] - hidden
    return Discriminator(
        image_px, num_properties=properties, **stylegan2.channel_rule(channels, "fmaps")
    )


def _property_cnn(shapes: Shapes, facts: Mapping[str, str]) -> PropertyCNN | CompactCNN:
    if "image_px" in facts:
        sizes = {"image_px": int(facts["image_px"]), "width": float(facts["width"])}
        if "properties" in facts:
            return CompactCNN(json.loads(facts["properties"]), **sizes)
        return PropertyCNN(facts["property"], crop=json.loads(facts["crop"]), **sizes)
    width = shapes["conv1.0.weight"][0] / CHANNELS[0]
    flat = shapes["fc1.0.weight"][1]
    for prop in ("gender", "age", "quality", "glass"):
        net = PropertyCNN(prop, width=width)
        same = net.fc1[0].in_features == flat
        if same and len(net.pools) == _count(shapes, r"conv\d+\.0\.weight"):
            return net
    raise ValueError("it has no metadata, and its shapes match no published CNN at 256 px")


KINDS: dict[str, tuple[set[str], Callable[[Shapes, Mapping[str, str]], nn.Module]]] = {
    "generator": ({"synthesis.layer0.const", *stylegan2.MARKS["generator"]}, _generator),
    "discriminator": ({"input0.weight", *stylegan2.MARKS["discriminator"]}, _discriminator),
    "property_cnn": ({"conv1.0.weight", "stem.0.weight"}, _property_cnn),
}


def build_network(
    tensors: dict[str, Tensor], facts: Mapping[str, str], kind: str = "", *, source: Path | str
) -> nn.Module:
    """Builds the network that tensors and metadata describe, and loads the tensors.

    ValueError, which names the source, if the network is not of `kind` or a tensor does not fit.
    """
    found = kind_of(tensors)
    if not found or kind not in {"", found}:
        holds = f"a {found}" if found else f"no known network (first tensor {min(tensors)!r})"
        lacks = kind == "discriminator" and found == "generator"
        hint = f"; {stylegan2.NO_DISCRIMINATOR}" if lacks else ""
        raise ValueError(f"{source}: holds {holds}, not a {kind or ' or '.join(KINDS)}{hint}.")
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    make = partial(stylegan2.make if stylegan2.kind_of(shapes) else KINDS[found][1], shapes, facts)
    misfit = f"its tensors and metadata do not fit a {found}"
    with complaint(source, misfit, "Fetch it again."):
        with torch.device("meta"):  # tensors that do not fit must not take memory
            make().load_state_dict(tensors, assign=True)
        net = make()
        net.load_state_dict(tensors)
    return net.eval()


def _load_net(path: Path | str, kind: str) -> Any:
    return build_network(*read_tensors(path, kind), kind, source=path)


def load_generator(path: Path | str) -> StyleGenerator:
    """Reads a generator of StyleGAN1 or 2, with or without properties, at any size.

    Here and below, ValueError if the file is unreadable or holds another kind of network.
    """
    return _load_net(path, "generator")


def load_discriminator(path: Path | str) -> Discriminator | StyleGAN2Discriminator:
    """Reads a discriminator of StyleGAN1 or 2, with or without properties, at any size."""
    return _load_net(path, "discriminator")


def load_property_cnn(path: Path | str) -> PropertyCNN | CompactCNN:
    """Reads a property CNN; published `.pth` files have no metadata, so their shapes decide."""
    return _load_net(path, "property_cnn")


def check_weights(path: Path | str, kind: str) -> None:
    """Raises ValueError unless a file holds a network of this kind with finite weights only."""
    if count_not_finite(_load_net(path, kind).state_dict()):
        raise ValueError(f"{path}: has numbers that are not finite. Fetch it again.")


def count_not_finite(tensors: Mapping[str, Tensor]) -> int:
    """Counts the numbers that are NaN or infinite."""
    return sum(int((~torch.isfinite(tensor.float())).sum()) for tensor in tensors.values())
