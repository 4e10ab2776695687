"""StyleGAN2 files: official pickles are read and never run; rosinality's layout and back."""

import argparse
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ohlora_lib.io.conversion import convert, describe
from ohlora_lib.io.stylegan2 import official_pickle
from ohlora_lib.io.stylegan2.layout import sizes
from ohlora_lib.io.stylegan2.rosinality import official, rosinality
from ohlora_lib.io.tensors import read_networks
from ohlora_lib.io.weights import (
    check_weights,
    load_discriminator,
    load_generator,
    read_tensors,
    save_weights,
)
from ohlora_lib.nets.samples import draw_latents
from ohlora_lib.nets.stylegan2 import Discriminator, Generator
from tests import checks
from tests.checks import same
from tests.io.test_weights import complaint
from tests.official_file import JUDGE, SIZES, global_of, network, official_file, saved, trapped


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A file that appears if the source text in a pickle is ever run."""
    path = tmp_path / "trap"
    trapped(monkeypatch, path)
    yield path
    assert not path.exists()


def test_official_file_is_read_and_its_source_is_never_run(tmp_path, trap):
    path = tmp_path / "network.pkl"
    tensors = official_file(path)
    found, facts = read_tensors(path)
    assert same(found, tensors["G_ema"])
    assert (facts["conv_clamp"], facts["z_dim"]) == ("256", "10")
    assert same(read_tensors(path, "discriminator")[0], tensors["D"])
    assert same(read_tensors(path, network="G")[0], tensors["G"])
    told = describe(path)
    assert {name: told[name] for name in SIZES} == SIZES
    assert (told["kind"], told["architecture"]) == ("generator", "stylegan2")
    assert (told["network"], told["networks"]) == ("G_ema", ["G_ema", "D", "G"])
    assert "discriminator" not in told
    assert not trap.exists()
    pickle.loads(path.read_bytes())
    assert trap.exists()  # the trap works if code runs
    trap.unlink()


def test_networks_are_built_and_saved_with_what_tensors_do_not_show(tmp_path, trap):
    path, safe = tmp_path / "network.pkl", tmp_path / "net.safetensors"
    tensors = official_file(path)
    for load, name in ((load_generator, "G_ema"), (load_discriminator, "D")):
        net = load(path)
        assert same(net.state_dict(), tensors[name])
        assert (net.conv_clamp, net.training) == (256, False)
        save_weights(net, safe)
        back = load(safe)
        assert same(net.state_dict(), back.state_dict())
        assert back.conv_clamp == 256
    check_weights(path, "generator")
    judge = Discriminator(8, mbstd_group_size=2, channel_base=64, c_dim=2)
    save_weights(judge, safe)
    assert load_discriminator(safe).b4.group == 2


class EasyDict(dict):
    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@pytest.mark.parametrize("place", ["dnnlib.util.EasyDict", "dnnlib.EasyDict"])
def test_easydict_is_read(tmp_path, trap, monkeypatch, place):
    kind = global_of(monkeypatch, place, type("EasyDict", (EasyDict,), {}))
    path = tmp_path / "network.pkl"
    official_file(path, synthesis_kwargs=kind(conv_clamp=128))
    assert describe(path)["conv_clamp"] == 256  # the layers' own clamp decides


@pytest.mark.parametrize("core", ["core", "_core"])
def test_numpy_scalars_of_both_versions_are_read(tmp_path, trap, monkeypatch, core):
    call = np.float64(1).__reduce__()[0]  # the installed version's
    if not call.__module__.startswith(f"numpy.{core}."):
        call = global_of(monkeypatch, f"numpy.{core}.multiarray.scalar", lambda *_: None)
    swapped = Reduced(call, np.dtype(">i8"), (10).to_bytes(8, "big"))
    official_file(tmp_path / "n.pkl", z_dim=swapped)
    assert describe(tmp_path / "n.pkl")["z_dim"] == 10
    values = {"z_dim": np.int64(10), "img_channels": np.float32(3), "c_dim": np.bool_(False)}
    for name, value in values.items():
        scalar = Reduced(call, value.dtype, value.tobytes())
        official_file(tmp_path / "n.pkl", **{name: scalar})
        if name == "z_dim":
            assert describe(tmp_path / "n.pkl")[name] == 10
        else:  # read, and then found to be no whole number
            assert f"its {name} is {value.item()}" in complaint(describe, tmp_path / "n.pkl")


class Reduced:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


REFUSED = {
    "os.system": (lambda trap: Reduced(os.system, f"touch {trap}"), "system"),
    "builtins.eval": (lambda trap: Reduced(eval, f"open({str(trap)!r}, 'w')"), "builtins.eval"),
    "nested": (
        lambda trap: {"G_ema": saved("Generator", {}, x=[{"y": Reduced(open, str(trap), "w")}])},
        "io.open",
    ),
    "inside a tensor": (
        lambda _: {"G_ema": Reduced(torch._utils._rebuild_parameter, Reduced(os.getcwd), 1, {})},
        "getcwd",
    ),
    "numpy array": (lambda _: {"G_ema": np.arange(3)}, "multiarray._reconstruct"),
    "numpy object": (lambda _: {"G_ema": Reduced(np.dtype, "O")}, "not a network"),
    "a list": (lambda _: ["G_ema"], "no G_ema, D or G"),
    "no network": (lambda _: {"G_ema": {"weight": 1}}, "not a network"),
    "a part twice": (
        lambda _: {"G_ema": saved("G", {}, _modules=dict.fromkeys("ab", saved("Layer", {})))},
        "its part 'b.' occurs twice",
    ),
    "a line in a name": (
        lambda _: {"G_ema": saved("Generator", {}, _modules={"a\nb\x1b": 1})},
        r"'a\nb\x1b.' is not a network",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_globals_are_refused_by_name(tmp_path, trap, case):
    make, said = REFUSED[case]
    path = tmp_path / "network.pkl"
    path.write_bytes(pickle.dumps(make(trap), 4))
    message = complaint(describe, path)
    assert said in message
    assert "Nothing in it was executed" in message


def test_protocol_2_and_damaged_files_are_refused_in_one_line(tmp_path, trap):
    path = tmp_path / "network.pkl"
    official_file(path, protocol=2)
    assert "_codecs.encode" in complaint(describe, path)  # how Python 3 stores bytes in it
    official_file(path)
    data = path.read_bytes()
    for share in (0, 0.01, 0.5, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        assert "truncated" in complaint(describe, path)
    for content in (b"<html>not found</html>", b"\x80\x04.", b"\x00" * 99, b"PK\x03\x04"):
        path.write_bytes(content)
        complaint(describe, path)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"}.",  # a frame
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x.",  # bytes
        b"\x80\x04\x95" + (1).to_bytes(8, "little") + b"\x8c\x01aN.",  # text across a frame's end
        b"\x80\x04}r" + (2**31 - 1).to_bytes(4, "little") + b".",  # an index of the memo
    ],
)
def test_lengths_are_looked_at_before_memory_is_taken(tmp_path, data, monkeypatch):
    path = tmp_path / "network.pkl"
    path.write_bytes(data)
    monkeypatch.setattr(official_pickle, "_Reader", lambda _: pytest.fail("it was loaded"))
    assert "truncated" in complaint(describe, path)


def test_a_pickle_of_very_many_entries_is_refused(tmp_path, trap, monkeypatch):
    official_file(tmp_path / "n.pkl")
    monkeypatch.setattr(official_pickle, "MOST_ENTRIES", 1_000)
    assert "over 1,000 entries" in complaint(describe, tmp_path / "n.pkl")


def test_tensors_that_claim_memory_are_refused(tmp_path, trap):
    path = tmp_path / "network.pkl"
    official_file(path)
    data = path.read_bytes()
    claim = b"M\x00\x01N"  # 256 numbers, and the end of a storage's facts
    assert claim in data
    path.write_bytes(data.replace(claim, b"M\xff\xffN"))
    assert "claims 65,535 numbers" in complaint(describe, path)
    tensors = network("generator")
    tensors["synthesis.b4.const"] = torch.zeros(1).expand(10**9, 4, 4)
    torch.save({"g_ema": tensors}, tmp_path / "g.pt")
    assert "claim" in complaint(describe, tmp_path / "g.pt")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dnnlib.tflib.network"], "TensorFlow. Convert it with legacy.py of https://github.com"),
        (["SynthesisInput", "L0_36_512"], "a StyleGAN2's .pkl. Nothing"),
        (["SuperresGenerator", "L0_36_1024"], "is a StyleGAN-XL"),
    ],
)
def test_other_stylegans_are_named(tmp_path, words, said):
    path = tmp_path / "network.pkl"
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps({"G_ema": words}, protocol))
        assert said in complaint(describe, path)
    if words[0].startswith("dnnlib"):
        path.write_bytes(b"\x80\x02cdnnlib.tflib.network\nNetwork\nq\x00)R.")
        assert said in complaint(describe, path)


MEASURE = """
import resource, sys
from pathlib import Path
from ohlora_lib.io.weights import read_tensors
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_tensors(Path(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_loading_takes_at_most_two_and_a_half_times_the_size(tmp_path, trap, monkeypatch):
    monkeypatch.setitem(SIZES, "channel_max", 384)
    for name in SIZES.keys() & JUDGE.keys():
        monkeypatch.setitem(JUDGE, name, {**SIZES, "channel_base": 1 << 13}[name])
    monkeypatch.setitem(SIZES, "channel_base", 1 << 13)
    path = tmp_path / "network.pkl"
    official_file(path)
    taken = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, check=True)
    assert path.stat().st_size > 50e6
    assert int(taken.stdout) * 1024 < 2.5 * path.stat().st_size


def test_convert_writes_official_names_and_keeps_the_clamp(tmp_path, trap):
    path, safe, judge = (tmp_path / name for name in ("n.pkl", "g.safetensors", "d.safetensors"))
    tensors = official_file(path)
    convert(path, safe)
    convert(path, judge, network="D")
    assert same(load_file(safe), tensors["G_ema"])
    assert same(load_file(judge), tensors["D"])
    told = describe(safe)
    assert {name: told[name] for name in SIZES} == SIZES
    assert describe(judge)["kind"] == "discriminator"
    convert(path, tmp_path / "split.safetensors", wide_dim=4)
    told = convert(
        tmp_path / "split.safetensors", tmp_path / "plain.safetensors", plain_mapping=True
    )
    assert told["w_dim"] == 2 * SIZES["w_dim"]  # not what the file says
    for said, options in (
        ("cannot store conv_clamp", {}),
        ("only a generator with a plain mapping", {"network": "D", "wide_dim": 4}),
        ("must be rosinality", {"layout": "tensorflow"}),
        ("suffix must be .pt", {"layout": "rosinality"}),
    ):
        assert said in checks.complaint(convert, path, tmp_path / "g.pth", **options)


@pytest.mark.parametrize("own", [{}, {"mapping_layers": 4}, {"c_dim": 3}], ids=str)
def test_a_split_mapping_and_its_plain_form_draw_the_same_pictures(tmp_path, own):
    torch.manual_seed(0)
    path, split, plain = (tmp_path / f"{name}.safetensors" for name in "gsp")
    save_weights(Generator(**SIZES | own), path)
    assert convert(path, split, wide_dim=20, seed=3)["wide_dim"] == 20
    first = load_generator(split)
    assert same(first.state_dict(), load_generator(path).split(20, seeded(3)).state_dict())
    torch.manual_seed(1)
    for name, parameter in first.named_parameters():  # the learning-rate multiplier is 0.01
        parameter.data += (50 if "mapping.fc" in name else 0.1) * torch.randn(parameter.shape)
    first.mapping.w_avg.normal_()
    save_weights(first, split)
    told = convert(split, plain, plain_mapping=True)
    assert (told["w_dim"], told["layer_features"], told["conv_clamp"]) == (24, 32, 256)
    second = load_generator(plain)
    assert "wide_dim" not in describe(plain)
    z, labels = draw_latents(first, 4, seed=1)
    styles = first.styles(z, labels)
    assert 0.3 < (styles.w2_.std() / styles.w1_.std()).item() < 3  # both branches count
    for options in ({}, {"psi": 0.5, "psi_layers": 3}, {"psi": 0.0, "psi_layers": 6}):
        images = [net(z, labels, **options) for net in (first, second)]
        torch.testing.assert_close(*images, rtol=1e-5, atol=1e-5 * images[0].std().item())
    for name, said in ((split, "two branches"), (plain, "several widths")):
        message = complaint(convert, name, tmp_path / "n.pt", layout="rosinality")
        assert said in message
        assert "--plain" in message


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_what_cannot_be_split_or_made_plain_is_refused(tmp_path):
    path, out = tmp_path / "g.safetensors", tmp_path / "out.safetensors"
    save_weights(Generator(**SIZES | {"mapping_layers": 1}), path)
    assert "must be at least 2" in complaint(convert, path, out, wide_dim=4)
    assert "with a split mapping" in complaint(convert, path, out, plain_mapping=True)
    for options in (
        {"plain_mapping": True, "wide_dim": 4},
        {"plain_mapping": True, "layout": "rosinality"},
    ):
        assert "exclude each other" in complaint(convert, path, out, **options)
    assert "3 classes" in checks.complaint(rosinality, network("generator", c_dim=3))


KERNELS = {  # of 8 px, and their sums
    "generator": {"convs.0.conv.blur.kernel": 4, "to_rgbs.0.upsample.kernel": 4},
    "discriminator": {"convs.1.conv2.0.kernel": 1, "convs.1.skip.0.kernel": 1},
}


@pytest.mark.parametrize("kind", KERNELS)
def test_rosinality_there_and_back_is_bit_exact(kind):
    taps = torch.tensor([[1.0, 3, 3, 1]])
    kernels = {
        name: t for name, t in rosinality(network(kind, image_px=8)).items() if "kern" in name
    }
    assert same(kernels, {name: taps.T @ taps / 64 * sum_ for name, sum_ in KERNELS[kind].items()})
    ours = network(kind, seed=4)
    theirs = rosinality(ours)
    assert same(official(theirs), ours)
    assert same(rosinality(official(theirs)), theirs)


def test_files_of_rosinality_come_back_bit_exact(tmp_path):
    content = {"g_ema": rosinality(network("generator")), "args": argparse.Namespace(size=16)}
    content |= {"latent_avg": content["g_ema"].pop("latent_avg"), "g_optim": {"state": {}}}
    content["d"] = rosinality(network("discriminator"))
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    torch.save(content, first)
    assert {**describe(first), **SIZES, "conv_clamp": None} == describe(first)
    convert(first, second, layout="rosinality")
    back = torch.load(second, weights_only=True)
    assert list(back) == ["g_ema", "d", "latent_avg"]
    assert same(back["g_ema"], content["g_ema"])
    assert same(back["d"], content["d"])
    assert torch.equal(back["latent_avg"], content["latent_avg"])
    convert(second, tmp_path / "g.safetensors")
    assert same(load_file(tmp_path / "g.safetensors"), network("generator"))


def test_missing_average_and_filters_of_rosinality_are_made(tmp_path):
    theirs = rosinality(network("generator"))
    bare = {n: t for n, t in theirs.items() if "kernel" not in n and n != "latent_avg"}
    torch.save({"g_ema": bare}, tmp_path / "g.pt")
    found = read_networks(tmp_path / "g.pt")[0]["g_ema"]
    average = official(found)["mapping.w_avg"]
    assert average.shape == (12,)
    assert average.abs().max() > 1e-4
    assert same({**official(found), "mapping.w_avg": 0 * average},
                {**network("generator"), "mapping.w_avg": 0 * average})  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("generator", {"c_dim": 3, "mapping_layers": 8}),
        ("generator", {"image_px": 64, "channel_base": 100, "channel_max": 9}),
        ("discriminator", {"c_dim": 3, "mapping_layers": 8}),
        ("discriminator", {"image_px": 8}),
    ],
)
def test_sizes_come_from_shapes(kind, own):
    wanted = {**(SIZES if kind == "generator" else JUDGE), **own}
    tensors = network(kind, **own)
    found = sizes({name: tensor.shape for name, tensor in tensors.items()}, {"conv_clamp": "256"})
    assert {name: found[name] for name in wanted} == {
        **wanted,
        "channel_base": found["channel_base"],
    }
    make = Generator if kind == "generator" else Discriminator
    assert {n: t.shape for n, t in make(**found).state_dict().items()} == {
        name: tensor.shape for name, tensor in tensors.items()
    }


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("mapping.fc0.weight", None, "mapping.fc0.weight"),
        ("synthesis.b8.conv1.noise_const", None, "noise_const"),
        ("synthesis.b8.torgb.bias", (1,), "torgb"),
        ("synthesis.b8.conv1.weight", (16, 9, 3, 3), "([16, 16, 3, 3])"),
        ("synthesis.b4.conv1.bias", (), "tuple index"),
        ("synthesis.b64.conv0.bias", (16,), "b32"),
        ("synthesis.b12.conv0.bias", (10**6,), "b12"),
        ("synthesis.b2048.conv0.bias", (16,), "2048"),
        ("extra.weight", (3,), "extra.weight"),
    ],
)
def test_shapes_that_do_not_fit_are_named(tmp_path, name, shape, said):
    tensors = network("generator")
    if shape is None:
        del tensors[name]
    else:
        tensors[name] = torch.zeros(shape)
    torch.save(tensors, tmp_path / "g.pt")
    assert said in complaint(load_generator, tmp_path / "g.pt")


def test_facts_that_contradict_the_tensors_are_refused(tmp_path, trap):
    for fact, value in {"z_dim": 11, "img_channels": 1, "img_resolution": 32}.items():
        official_file(tmp_path / "n.pkl", **{fact: value})
        assert f"its {fact} is {value}" in complaint(describe, tmp_path / "n.pkl")
    tensors = network("generator")
    tensors["synthesis.b8.resample_filter"] = torch.ones(4, 4)
    torch.save(tensors, tmp_path / "g.pt")
    assert "[1, 3, 3, 1]" in complaint(load_generator, tmp_path / "g.pt")


def test_a_pickle_cannot_change_its_reader(tmp_path):
    """BUILD sets attributes of whatever stands in for a global."""
    kept = dict(official_pickle.STAND_INS)
    for place in kept:
        module, _, name = place.rpartition(".")
        data = f"\x80\x02c{module}\n{name}\n}}X\x04\x00\x00\x00evilK\x01sb.".encode("latin1")
        (tmp_path / "n.pkl").write_bytes(data)
        complaint(describe, tmp_path / "n.pkl")
        assert not hasattr(kept[place], "evil")
