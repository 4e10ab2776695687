"""Publishing: a folder ready to upload, which says how its weights were made."""

import json
import runpy
from pathlib import Path

import pytest
import torch
import yaml

from ohlora_lib.io.weights import load_generator, read_tensors, save_weights
from ohlora_lib.nets import Discriminator, Generator, stylegan2
from ohlora_lib.nets.samples import draw_latents
from ohlora_lib.report.publish import write_folder
from ohlora_lib.study.run_folder import start_run
from tests.checks import complaint, same

SIZES = {"fmaps_base": 64, "fmaps_max": 12}
SMALL = {"channel_base": 64, "channel_max": 16, "conv_clamp": 256}
NETS = {
    "stylegan1": (Generator(32, z_dim=8, w_dim=8, **SIZES), Discriminator(32, **SIZES)),
    "stylegan2": (
        stylegan2.Generator(32, z_dim=8, w_dim=8, wide_dim=9, **SMALL),
        stylegan2.Discriminator(32, mbstd_group_size=8, **SMALL),
    ),
}


@pytest.fixture
def architecture():
    return "stylegan1"


@pytest.fixture
def run_folder(root, architecture):
    config = {"study": "s", "variant": "v9", "epochs": 3, "concept": {"gender": 1.0}}
    run = start_run("05_finetune_generator", config, root=root)
    for name, net in zip(("generator", "discriminator"), NETS[architecture], strict=True):
        save_weights(net, run.path / f"{name}.safetensors")
    load_generator(run.path / "generator.safetensors")  # a process's first load takes a second
    run.finish(verdict="Closer on all four.", mean_gender_score=0.987, heldout_gender_score=0.9)
    return run.path


@pytest.mark.parametrize("architecture", NETS)
def test_folder_of_a_run(run_folder, tmp_path, architecture):
    out, path = tmp_path / "out", run_folder / "summary.json"
    summary = json.loads(path.read_text())
    summary["versions"] |= {"ohlora_lib": "0.0.7", "torch": "2.11.1"}  # trained elsewhere
    path.write_text(json.dumps(summary))
    written = write_folder(run_folder, out)
    assert {path.name for path in written} == {
        "generator.safetensors", "discriminator.safetensors", "config.json", "README.md",
    }  # fmt: skip
    ours, theirs = (load_generator(f / "generator.safetensors") for f in (run_folder, out))
    assert same(ours.state_dict(), theirs.state_dict())
    made = NETS[architecture][0]
    assert (type(theirs), theirs.sizes, theirs.wide_dim) == (type(made), made.sizes, made.wide_dim)
    for name in ("generator", "discriminator"):
        assert read_tensors(out / f"{name}.safetensors")[1]["architecture"] == architecture
    facts = json.loads((out / "config.json").read_text())
    assert facts["networks"]["generator"]["image_px"] == 32
    assert facts["networks"]["discriminator"]["architecture"] == architecture
    assert facts["parameters"]["epochs"] == 3
    card = (out / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert "stylegan" in head["tags"]
    assert ("stylegan2" in head["tags"]) == (architecture == "stylegan2")
    assert "unconditional" in head["tags"]
    assert f"| generator | {architecture} | 32 |" in card
    for words in ("Closer on all four.", "| gender | 1 | 0.987 | 0.900 |", "Limits", "papermill"):
        assert words in card
    assert "with ohlora 0.0.7 and torch 2.11.1." in card


def test_class_conditional_file(tmp_path, monkeypatch):
    """Its tag says so, and the card's example draws its images, with labels."""
    net = stylegan2.Generator(32, z_dim=8, w_dim=8, c_dim=3, **SMALL)
    save_weights(net, tmp_path / "g.safetensors")
    write_folder(tmp_path / "g.safetensors", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    tags = yaml.safe_load(card.split("---")[1])["tags"]
    assert "class-conditional" in tags
    assert "unconditional" not in tags
    monkeypatch.chdir(tmp_path / "out")
    Path("use.py").write_text(card.split("```python")[1].split("```")[0])
    expected = net(*draw_latents(net, 4, seed=0)).clamp(-1, 1)
    assert torch.equal(runpy.run_path("use.py")["images"], expected)
    assert not torch.equal(net(draw_latents(net, 4, seed=0)[0]).clamp(-1, 1), expected)


def test_what_cannot_be_published(run_folder, tmp_path):
    for path in run_folder.glob("*.safetensors"):
        path.unlink()
    assert "to publish" in complaint(write_folder, run_folder, tmp_path / "out")
    (run_folder / "summary.json").unlink()
    assert "not finished" in complaint(write_folder, run_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
