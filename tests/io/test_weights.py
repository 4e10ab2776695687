"""Weight files: bit-exact round trips, architecture inferred from shapes, no code executed."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from ohlora_lib.io import weights
from ohlora_lib.io.conversion import convert, describe
from ohlora_lib.io.weights import (
    check_weights,
    load_discriminator,
    load_generator,
    load_property_cnn,
    read_tensors,
    save_weights,
)
from ohlora_lib.nets import Discriminator, Generator, PropertyCNN
from tests import checks
from tests.checks import same

SMALL = {"z_dim": 16, "w_dim": 12}


def small(**options):
    return Generator(8, **{**SMALL, "fmaps_base": 64, **options})


def complaint(read, path, *args, **options):
    """The error of one line about a file, which it names."""
    message = checks.complaint(read, path, *args, **options)
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    "net",
    [
        small(wide_dim=20),
        Generator(16, **SMALL, fmaps_base=128),
        small(fmaps_base=100, fmaps_max=10, num_properties=3),
        Generator(32, **SMALL, fmaps_base=16, num_properties=0),  # one channel from 16 px on
        Discriminator(32, fmaps_base=128, fmaps_max=96),
        Discriminator(8, fmaps_base=128, num_properties=0),  # most channels at "2 px"
    ],
)
def test_there_and_back_is_bit_exact(tmp_path, net):
    safe, pth, again = (tmp_path / f"a.{suffix}" for suffix in ("safetensors", "pth", "2.pth"))
    if isinstance(net, Generator):
        net.truncation.w_avg.normal_()
    save_weights(net.eval(), safe, made="by hand")
    convert(safe, pth)
    convert(pth, again)
    load = load_generator if isinstance(net, Generator) else load_discriminator
    shape = (16,) if isinstance(net, Generator) else (3, net.image_px, net.image_px)
    given = torch.randn(2, *shape)
    for path in (safe, pth, again):
        back = load(path)
        assert same(net.state_dict(), back.state_dict())
        assert torch.equal(net(given), back(given))
        assert not back.training
    convert(safe, tmp_path / "b.safetensors")
    assert read_tensors(tmp_path / "b.safetensors")[1]["made"] == "by hand"


def test_property_cnn_of_any_size_comes_back(tmp_path):
    net = PropertyCNN("hat", image_px=64, width=0.25, crop=[0.25, 1.0, 0.0, 0.5]).eval()
    save_weights(net, tmp_path / "c.safetensors", validation_auroc="0.9")
    back = load_property_cnn(tmp_path / "c.safetensors")
    assert (back.prop, back.crop, back.width) == ("hat", (0.25, 1.0, 0.0, 0.5), 0.25)
    assert same(net.state_dict(), back.state_dict())
    assert describe(tmp_path / "c.safetensors")["validation_auroc"] == "0.9"
    said = checks.complaint(convert, tmp_path / "c.safetensors", tmp_path / "c.pth")
    assert "match no published CNN" in said  # without its metadata
    assert not (tmp_path / "c.pth").exists()


def test_the_same_network_gives_the_same_bytes(tmp_path):
    """safetensors writes metadata in random order, which made a repeated stage look changed."""
    net, path = PropertyCNN(image_px=32, width=0.1), tmp_path / "net.safetensors"
    assert len({save_weights(net, path) or path.read_bytes() for _ in range(8)}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("prop", ["gender", "age", "quality", "glass"])
def test_published_cnn_is_known_by_shape(tmp_path, prop):
    net = PropertyCNN(prop)
    torch.save(net.state_dict(), tmp_path / "cnn.pth")
    assert load_property_cnn(tmp_path / "cnn.pth").prop == prop


def genforce(path, *, inside="", properties=0):
    """Writes a checkpoint like GenForce's: three networks, with `inside` also optimizer states."""
    nets = {
        "generator": small(num_properties=properties),
        "discriminator": Discriminator(8, num_properties=properties, fmaps_base=64),
        "generator_smooth": small(num_properties=properties),
    }
    states = {name: net.state_dict() for name, net in nets.items()}
    optimizers = {"generator": {"state": {0: torch.ones(2)}, "param_groups": [{"lr": 0.1}]}}
    torch.save({inside: states, "optimizers": optimizers} if inside else states, path)
    return states


@pytest.mark.parametrize(("inside", "properties"), [("", 7), ("models", 0)])
def test_genforce_file_holds_a_base_and_its_discriminator(tmp_path, inside, properties):
    path = tmp_path / "stylegan.pth"
    states = genforce(path, inside=inside, properties=properties)
    loaded = load_generator(path)
    assert loaded.num_properties == properties
    assert same(loaded.state_dict(), states["generator_smooth"])
    assert same(load_discriminator(path).state_dict(), states["discriminator"])
    assert set(describe(path)["networks"]) == set(states)
    for name in ("generator", "discriminator"):
        convert(path, tmp_path / f"{name}.pth", network=name)
        assert same(read_tensors(tmp_path / f"{name}.pth")[0], states[name])
    assert "'absent'" in complaint(convert, path, tmp_path / "x.pth", network="absent")
    path, out = tmp_path / "discriminator.pth", tmp_path / "generator.pth"
    with pytest.raises(ValueError, match="generator.pth: exists. Give a new name"):
        convert(path, out)
    out.unlink()
    assert "no name, not 'D'. Leave out --network" in complaint(convert, path, out, network="D")


def test_networks_of_one_name_are_distinguished_and_found_behind_other_tables(tmp_path):
    own = small().state_dict()
    other = {name: value * 0 for name, value in own.items()}
    nested = {"models": {"generator": own}, "ema": {"generator": other}}
    torch.save(nested, tmp_path / "g.pth")
    assert describe(tmp_path / "g.pth")["networks"] == ["models/generator", "ema/generator"]
    assert same(read_tensors(tmp_path / "g.pth", network="ema/generator")[0], other)
    state = {"state": {"exp": torch.zeros(3)}, "g": {f"module.{k}": v for k, v in own.items()}}
    torch.save(state, tmp_path / "g.pth")
    assert same(own, load_generator(tmp_path / "g.pth").state_dict())


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("synthesis.layer3.style.bias", None, "missing"),
        ("mapping.dense0.weight", None, "keyerror"),
        ("truncation.w_avg", None, "missing"),
        ("extra.weight", torch.zeros(3), "unexpected"),
        ("mapping.dense3.bias", torch.zeros(5), "([5])"),
        ("synthesis.output0.weight", torch.zeros(()), "indexerror"),
        ("synthesis.layer0.bias", torch.zeros(3, dtype=torch.int64), "floating point"),
        ("synthesis.layer0.bias", torch.zeros(3, 3).to_sparse(), "sparse"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, name, tensor, said):
    tensors = {**small().state_dict(), name: tensor}
    if tensor is None:
        del tensors[name]
    torch.save(tensors, tmp_path / "g.pth")
    message = complaint(load_generator, tmp_path / "g.pth")
    assert said in message.lower()
    assert name in message or said == "indexerror"


@pytest.mark.parametrize(("channels", "said"), [(10**3, "size mismatch"), (10**7, "claim")])
def test_shapes_that_claim_memory_take_none(tmp_path, channels, said, monkeypatch):
    tensors = small().state_dict()
    tensors["synthesis.output0.weight"] = torch.zeros(1).expand(3, channels, 1, 1)
    torch.save(tensors, tmp_path / "g.pth")
    mark, make = weights.KINDS["generator"]
    made = []
    recorded = lambda *shapes: made.append(torch.zeros(0).device.type) or make(*shapes)  # noqa: E731
    monkeypatch.setitem(weights.KINDS, "generator", (mark, recorded))
    assert said in complaint(load_generator, tmp_path / "g.pth")
    assert set(made) <= {"meta"}
    torch.save(small().state_dict(), tmp_path / "g.pth")
    load_generator(tmp_path / "g.pth")
    assert made[-2:] == ["meta", "cpu"]


def test_wrong_kind(tmp_path):
    path = tmp_path / "net.safetensors"
    assert "no such weight file" in complaint(load_generator, path)
    save_weights(Discriminator(8, fmaps_base=64), path)
    assert "holds a discriminator, not a generator" in complaint(load_generator, path)
    assert "discriminator, not a property_cnn" in complaint(check_weights, path, "property_cnn")
    save_file({"x": torch.zeros(2)}, path)
    assert "no known network (first tensor 'x')" in complaint(describe, path)


def test_describe_believes_tensors_before_metadata(tmp_path):
    path, net = tmp_path / "g.safetensors", small(wide_dim=20)
    net.synthesis.layer0.bias.data[:2] = float("nan")
    facts = {"kind": "../escape", "parameters": "7", "note": "kept"}
    save_file(net.state_dict(), path, metadata=facts)
    found = describe(path)
    wanted = {"kind": "generator", "image_px": 8, "wide_dim": 20, "note": "kept"}
    wanted |= {"parameters": sum(p.numel() for p in net.parameters())}
    wanted |= {"numbers that are not finite": 2}
    assert {k: found[k] for k in wanted} == wanted
    assert "not finite" in complaint(check_weights, path, "generator")


@pytest.mark.parametrize("form", [torch.float64, torch.float16])
def test_number_format_and_tied_tensors_are_kept(tmp_path, form):
    base = {name: value.to(form) for name, value in small().state_dict().items()}
    base["synthesis.layer1.bias"] = base["synthesis.layer0.bias"]
    torch.save(base, tmp_path / "g.pth")
    convert(tmp_path / "g.pth", tmp_path / "s.safetensors", wide_dim=6)
    split = load_file(tmp_path / "s.safetensors")
    assert same({name: split[name] for name in base}, base)
    assert {value.dtype for value in split.values()} == {form}
    convert(tmp_path / "g.pth", tmp_path / "other.pth", wide_dim=6, seed=1)
    other = read_tensors(tmp_path / "other.pth")[0]
    assert not torch.equal(other["mapping.dense_new0.weight"], split["mapping.dense_new0.weight"])


def test_impossible_conversions_are_refused(tmp_path):
    split, judge = tmp_path / "split.safetensors", tmp_path / "d.safetensors"
    save_weights(small(wide_dim=12), split)
    save_weights(Discriminator(8, fmaps_base=64), judge)
    for path in (split, judge):
        said = complaint(convert, path, tmp_path / "out.pth", wide_dim=9)
        assert "only a generator with a plain" in said
    said = checks.complaint(convert, judge, tmp_path / "d.onnx")
    assert "d.onnx: the suffix must be" in said
    assert "Give another name" in complaint(convert, judge, judge)
    assert not (tmp_path / "out.pth").exists()
