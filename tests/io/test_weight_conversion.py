"""Weights into other files: bit for bit the same, split as published, or a line says why."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from ohlora_lib.io.weight_conversion import convert
from ohlora_lib.io.weights import (
    load_discriminator,
    load_generator,
    load_property_cnn,
    read_networks,
    read_tensors,
    save_weights,
)
from ohlora_lib.nets import Discriminator, Generator, PropertyCNN

SIZES = {"fmaps_base": 64, "fmaps_max": 12}


def generator(**options):
    return Generator(32, z_dim=8, w_dim=10, **SIZES, **options)


def genforce(path, *, inside="", properties=0):
    """A checkpoint as GenForce writes it: three networks, perhaps beside optimizer states."""
    nets = {
        "generator": generator(num_properties=properties),
        "discriminator": Discriminator(32, num_properties=properties, **SIZES),
        "generator_smooth": generator(num_properties=properties),
    }
    states = {name: net.state_dict() for name, net in nets.items()}
    optimizers = {"generator": {"state": {0: torch.ones(2)}, "param_groups": [{"lr": 0.1}]}}
    torch.save({inside: states, "optimizers": optimizers} if inside else states, path)
    return nets


def same(a, b):
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a
    )


def complaint(*args, **options):
    with pytest.raises(ValueError, match=".") as caught:
        convert(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "net",
    [
        generator(), generator(wide_dim=12), generator(num_properties=0),
        Discriminator(32, **SIZES), Discriminator(32, num_properties=0, **SIZES),
        PropertyCNN("quality"),
    ],
    ids=["plain", "split", "unconditional", "discriminator", "d-unconditional", "cnn"],
)  # fmt: skip
def test_there_and_back_is_bit_exact(tmp_path, net):
    save_weights(net, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
    convert(tmp_path / "b.pth", tmp_path / "c.safetensors")
    first, last = (read_tensors(tmp_path / name)[0] for name in ("a.safetensors", "c.safetensors"))
    assert same(first, dict(net.state_dict()))
    assert same(first, read_tensors(tmp_path / "b.pth")[0])
    assert same(first, last)


@pytest.mark.parametrize("inside", ["", "models"])
@pytest.mark.parametrize("properties", [0, 7])
def test_genforce_file_holds_a_base_and_its_discriminator(tmp_path, inside, properties):
    path = tmp_path / "stylegan.pth"
    nets = genforce(path, inside=inside, properties=properties)
    assert set(read_networks(path)[0]) == set(nets)
    loaded = load_generator(path)
    assert loaded.num_properties == properties
    assert same(loaded.state_dict(), nets["generator_smooth"].state_dict())
    judge = load_discriminator(path)
    assert same(judge.state_dict(), nets["discriminator"].state_dict())
    convert(path, tmp_path / "g.safetensors", network="generator")
    assert same(read_tensors(tmp_path / "g.safetensors")[0], nets["generator"].state_dict())
    convert(path, tmp_path / "d.pth", network="discriminator")
    assert same(load_discriminator(tmp_path / "d.pth").state_dict(), judge.state_dict())
    assert "'absent'" in complaint(path, tmp_path / "x.pth", network="absent")


def test_half_precision_stays_as_it_is(tmp_path):
    state = {name: value.half() for name, value in generator().state_dict().items()}
    torch.save(state, tmp_path / "half.pth")
    convert(tmp_path / "half.pth", tmp_path / "half.safetensors")
    assert same(read_tensors(tmp_path / "half.safetensors")[0], state)


def test_split_mapping_is_drawn_as_published(tmp_path):
    base = generator()
    save_weights(base, tmp_path / "base.safetensors")
    for seed in (0, 1):
        convert(tmp_path / "base.safetensors", tmp_path / f"{seed}.pth", wide_dim=400, seed=seed)
    first, other = (load_generator(tmp_path / f"{seed}.pth").state_dict() for seed in (0, 1))
    for name, value in base.state_dict().items():
        assert torch.equal(first[name], value)
    new = sorted(set(first) - set(base.state_dict()))
    assert new == [f"mapping.dense_new{k}.{part}" for k in (0, 1) for part in ("bias", "weight")]
    assert first["mapping.dense_new0.weight"].shape == (400, 10)
    for name in new[1::2]:
        assert first[name].std().item() == pytest.approx(0.15, rel=0.05)
        assert not torch.equal(first[name], other[name])
    again = "again.safetensors"
    convert(tmp_path / "base.safetensors", tmp_path / again, wide_dim=400, seed=1)
    assert same(read_tensors(tmp_path / again)[0], dict(other))


def test_facts_stay_with_the_weights(tmp_path):
    save_weights(generator(), tmp_path / "a.safetensors", made="by hand")
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert read_tensors(tmp_path / "b.safetensors")[1]["made"] == "by hand"


def test_a_narrow_cnn_stays_safetensors(tmp_path):
    save_weights(PropertyCNN("smiles", image_px=64, width=0.25), tmp_path / "a.safetensors")
    assert "no room" in complaint(tmp_path / "a.safetensors", tmp_path / "b.pth")
    assert not (tmp_path / "b.pth").exists()
    convert(tmp_path / "a.safetensors", tmp_path / "c.safetensors")
    assert load_property_cnn(tmp_path / "c.safetensors").prop == "smiles"


def test_what_cannot_be(tmp_path):
    save_weights(generator(wide_dim=12), tmp_path / "split.safetensors")
    save_weights(Discriminator(32, **SIZES), tmp_path / "d.safetensors")
    out = tmp_path / "out.pth"
    assert "split mapping already" in complaint(tmp_path / "split.safetensors", out, wide_dim=9)
    assert "only a generator" in complaint(tmp_path / "d.safetensors", out, wide_dim=9)
    assert "suffix" in complaint(tmp_path / "d.safetensors", tmp_path / "d.onnx")
    assert "Give another name" in complaint(tmp_path / "d.safetensors", tmp_path / "d.safetensors")
    assert "no such weight file" in complaint(tmp_path / "absent.pth", out)
    assert not out.exists()


@pytest.mark.parametrize("form", [torch.float64, torch.float16])
def test_splitting_leaves_the_base_as_it_is(tmp_path, form):
    base = {name: value.to(form) for name, value in generator().state_dict().items()}
    save_file(base, tmp_path / "g.safetensors")
    convert(tmp_path / "g.safetensors", tmp_path / "s.safetensors", wide_dim=6)
    split = load_file(tmp_path / "s.safetensors")
    assert all(torch.equal(split[name], value) for name, value in base.items())
    assert {value.dtype for value in split.values()} == {form}


def test_tied_tensors_are_written_apart(tmp_path):
    net = generator()
    tensors = net.state_dict()
    tensors["synthesis.layer1.bias"] = tensors["synthesis.layer0.bias"]
    torch.save(tensors, tmp_path / "g.pth")
    convert(tmp_path / "g.pth", tmp_path / "g.safetensors")
    assert len(load_file(tmp_path / "g.safetensors")) == len(tensors)
