"""Weight files: bit-exact both ways, architecture read off shapes, nothing in them executed."""

import pickle
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from ohlora_lib.io.weights import (
    describe,
    kind_of,
    load_discriminator,
    load_generator,
    load_property_cnn,
    read_tensors,
    save_weights,
)
from ohlora_lib.nets import Discriminator, Generator, PropertyCNN

SMALL = {"z_dim": 16, "w_dim": 12}


def same_weights(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"fmaps_base": 128},
        {"fmaps_base": 128, "wide_dim": 20},
        {"fmaps_base": 128, "num_properties": 0},
        {"fmaps_base": 100, "fmaps_max": 10, "num_properties": 3},
        {"fmaps_base": 16, "fmaps_max": 64},  # one channel from 16 px on
        {"fmaps_base": 1, "fmaps_max": 1},
    ],
)
@pytest.mark.parametrize("image_px", [8, 32])
def test_generator_round_trip(tmp_path, options, image_px):
    net = Generator(image_px, **SMALL, **options).eval()
    net.truncation.w_avg.normal_()
    save_weights(net, tmp_path / "g.safetensors")
    back = load_generator(tmp_path / "g.safetensors")
    assert same_weights(net, back)
    assert not back.training
    names = ("image_px", "z_dim", "w_dim", "num_properties", "wide_dim")
    assert [getattr(back, n) for n in names] == [getattr(net, n) for n in names]
    z = torch.randn(2, 16)
    assert torch.equal(net(z), back(z))


@pytest.mark.parametrize(
    "options",
    [
        {"fmaps_base": 2048, "fmaps_max": 96},
        {"fmaps_base": 128},  # 64 channels at "2 px", more than anywhere else
        {"fmaps_base": 128, "fmaps_max": 20, "num_properties": 0},
        {"fmaps_base": 16, "fmaps_max": 64},
    ],
)
def test_discriminator_round_trip(tmp_path, options):
    net = Discriminator(32, **options)
    save_weights(net, tmp_path / "d.safetensors")
    back = load_discriminator(tmp_path / "d.safetensors")
    assert same_weights(net, back)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(net(images), back(images))


@pytest.mark.parametrize(
    "options", [{"prop": "glass"}, {"prop": "hat", "crop": [0.25, 1.0, 0.0, 0.5]}]
)
def test_property_cnn_round_trip(tmp_path, options):
    net = PropertyCNN(**options, image_px=32, width=0.3).eval()
    save_weights(net, tmp_path / "c.safetensors", validation_auroc="0.9")
    back = load_property_cnn(tmp_path / "c.safetensors")
    assert same_weights(net, back)
    assert (back.prop, back.crop, back.width) == (net.prop, net.crop, 0.3)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(net(images), back(images))
    assert read_tensors(tmp_path / "c.safetensors")[1]["validation_auroc"] == "0.9"


@pytest.mark.parametrize("prop", ["gender", "quality", "age", "glass"])
def test_published_property_cnn_is_known_by_shape(tmp_path, prop):
    net = PropertyCNN(prop, width=1 / 32)
    torch.save(net.state_dict(), tmp_path / "c.pth")
    assert load_property_cnn(tmp_path / "c.pth").prop == prop


@pytest.mark.parametrize("wrapper", [None, "generator_smooth", "generator", "state_dict"])
def test_pth(tmp_path, wrapper):
    net = Generator(16, **SMALL, fmaps_base=128, num_properties=0)
    content = net.state_dict()
    other = Generator(16, **SMALL, fmaps_base=128, num_properties=0).state_dict()
    if wrapper == "generator_smooth":  # GenForce keeps the trained generator beside its average
        content = {"generator": other, "discriminator": {}, "generator_smooth": content}
    elif wrapper:
        content = {wrapper: content, "epoch": 3}
    torch.save(content, tmp_path / "g.pth")
    assert same_weights(load_generator(tmp_path / "g.pth"), net)


class Trap:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_code_in_a_pth_is_not_executed(tmp_path, form):
    path, trap = tmp_path / "g.pth", tmp_path / "trap"
    if form == "torch":
        torch.save({"generator": Trap(trap)}, path)
    else:
        path.write_bytes(pickle.dumps(Trap(trap)))
    message = complaint(load_generator, path)
    assert "not a plain weight file" in message
    assert not trap.exists()
    pickle.loads(path.read_bytes() if form == "pickle" else pickle.dumps(Trap(trap))).close()
    assert trap.exists()  # the trap works where code runs


def complaint(load, path):
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_file(tmp_path, suffix, share):
    path, net = tmp_path / f"g.{suffix}", Generator(8, **SMALL, fmaps_base=64)
    if suffix == "pth":
        torch.save(net.state_dict(), path)
    else:
        save_weights(net, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "Fetch it again" in complaint(load_generator, path)


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"\x80\x02]q\x00.", b"\x00" * 99]
)
def test_something_else(tmp_path, content):
    for suffix in ("safetensors", "pth"):
        path = tmp_path / f"g.{suffix}"
        path.write_bytes(content)
        complaint(load_generator, path)


def test_missing_file(tmp_path):
    assert "no such weight file" in complaint(load_generator, tmp_path / "g.safetensors")


def edited(tmp_path, net, edit):
    path = tmp_path / "edited.safetensors"
    save_weights(net, path)
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    "name",
    [
        *("synthesis.layer3.style.bias", "mapping.dense0.weight", "mapping.dense3.bias"),
        *("synthesis.layer2.blur.kernel", "truncation.w_avg", "synthesis.output1.bias"),
    ],
)
def test_missing_tensor_is_named(tmp_path, name):
    net = Generator(16, **SMALL, fmaps_base=128)
    path = edited(tmp_path, net, lambda tensors: tensors.pop(name))
    message = complaint(load_generator, path)
    assert repr(name) in message
    assert "missing" in message


def test_extra_and_misshapen_tensors_are_named(tmp_path):
    net = Generator(16, **SMALL, fmaps_base=128)
    path = edited(tmp_path, net, lambda t: t.update({"extra.weight": torch.zeros(3)}))
    message = complaint(load_generator, path)
    assert "'extra.weight' is (3,)" in message
    assert "needs none" in message
    path = edited(tmp_path, net, lambda t: t.update({"mapping.dense3.bias": torch.zeros(5)}))
    message = complaint(load_generator, path)
    assert "'mapping.dense3.bias' is (5,)" in message
    assert "(12,)" in message


def test_wrong_kind(tmp_path):
    path = tmp_path / "net.safetensors"
    save_weights(Discriminator(8, fmaps_base=64), path)
    assert "holds a discriminator, not a generator" in complaint(load_generator, path)
    assert "holds a discriminator, not a property_cnn" in complaint(load_property_cnn, path)
    save_file({"x": torch.zeros(2)}, path)
    assert "no generator, discriminator or property CNN" in complaint(load_discriminator, path)
    assert "no generator, discriminator or property CNN" in complaint(describe, path)
    with pytest.raises(ValueError, match="no generator"):
        kind_of({})


def test_describe(tmp_path):
    net = Generator(16, **SMALL, fmaps_base=128, wide_dim=20)
    save_weights(net, tmp_path / "g.safetensors", epochs="3")
    facts = describe(tmp_path / "g.safetensors")
    assert facts["parameters"] == sum(p.numel() for p in net.parameters())
    wanted = {"kind": "generator", "image_px": 16, "wide_dim": 20, "epochs": "3"}
    assert {k: facts[k] for k in wanted} == wanted


def test_metadata_cannot_say_what_the_tensors_deny(tmp_path):
    path = tmp_path / "g.safetensors"
    net = Generator(8, **SMALL, fmaps_base=64)
    facts = {"kind": "../escape", "parameters": "7", "megabytes": "0", "note": "kept"}
    save_file(net.state_dict(), path, metadata=facts)
    found = describe(path)
    assert (found["kind"], found["note"]) == ("generator", "kept")
    assert found["parameters"] == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("synthesis.output0.weight", ()),
        ("synthesis.output0.weight", (3,)),
        ("synthesis.output0.weight", (3, 10**6, 1, 1)),
        ("mapping.label_weight", ()),
        ("mapping.dense0.weight", (4,)),
    ],
)
def test_damaged_shapes_are_one_line_and_take_no_memory(tmp_path, name, shape):
    tensors = Generator(8, **SMALL, fmaps_base=64).state_dict()
    tensors[name] = torch.zeros(1).expand(shape) if shape else torch.zeros(())
    torch.save(tensors, tmp_path / "g.pth")
    said = complaint(load_generator, tmp_path / "g.pth")
    if len(shape) == 4:  # refused on shapes alone, before anything of that size was made
        assert "the network that the other tensors describe needs" in said


@pytest.mark.parametrize(
    "odd",
    [
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(3, dtype=torch.bool),
        torch.zeros(3, 3).to_sparse(),
    ],
)
def test_tensors_that_are_no_weights(tmp_path, odd):
    tensors = Generator(8, **SMALL, fmaps_base=64).state_dict()
    torch.save({**tensors, "synthesis.layer0.bias": odd}, tmp_path / "g.pth")
    assert "synthesis.layer0.bias" in complaint(load_generator, tmp_path / "g.pth")


def test_networks_of_one_name_are_told_apart(tmp_path):
    tensors = Generator(8, **SMALL, fmaps_base=64).state_dict()
    other = {name: value * 0 for name, value in tensors.items()}
    nested = {"models": {"generator": tensors}, "ema": {"generator": other}}
    torch.save(nested, tmp_path / "g.pth")
    assert describe(tmp_path / "g.pth")["networks"] == ["models/generator", "ema/generator"]
    read, _ = read_tensors(tmp_path / "g.pth", network="ema/generator")
    assert not read["mapping.dense0.weight"].any()


def test_what_precedes_the_network_does_not_hide_it(tmp_path):
    net = Generator(8, **SMALL, fmaps_base=64)
    state = {
        "state": {"exp": torch.zeros(3)},
        "g": {f"module.{k}": v for k, v in net.state_dict().items()},
    }
    torch.save(state, tmp_path / "g.pth")
    assert same_weights(net, load_generator(tmp_path / "g.pth"))


def test_numbers_that_are_not_finite_are_counted(tmp_path):
    net = Generator(8, **SMALL, fmaps_base=64)
    net.synthesis.layer0.bias.data[:2] = float("nan")
    save_weights(net, tmp_path / "g.safetensors")
    assert describe(tmp_path / "g.safetensors")["numbers that are not finite"] == 2
