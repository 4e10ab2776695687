"""Publishing: a folder ready to upload, which says how its weights were made."""

import json

import pytest
import torch
import yaml

from ohlora_lib.io.weights import load_generator, save_weights
from ohlora_lib.nets import Discriminator, Generator
from ohlora_lib.report.publish import write_folder
from ohlora_lib.study.run_folder import start_run

SIZES = {"fmaps_base": 64, "fmaps_max": 12}


@pytest.fixture
def run_folder(tmp_path):
    root = tmp_path / "project"
    (root / "params").mkdir(parents=True)
    (root / "notebooks").mkdir()
    config = {"study": "s", "variant": "v9", "epochs": 3}
    run = start_run("05_finetune_generator", config, root=root)
    save_weights(Generator(32, z_dim=8, w_dim=8, **SIZES), run.path / "generator.safetensors")
    save_weights(Discriminator(32, **SIZES), run.path / "discriminator.safetensors")
    run.finish(verdict="Closer on all four.", mean_gender_score=0.987)
    return run.path


def test_folder_of_a_run(run_folder, tmp_path):
    out, path = tmp_path / "out", run_folder / "summary.json"
    summary = json.loads(path.read_text())
    summary["versions"] |= {"ohlora_lib": "0.0.7", "torch": "2.11.1"}  # trained elsewhere
    path.write_text(json.dumps(summary))
    written = write_folder(run_folder, out)
    assert {path.name for path in written} == {
        "generator.safetensors", "discriminator.safetensors", "config.json", "README.md",
    }  # fmt: skip
    ours, theirs = (load_generator(f / "generator.safetensors") for f in (run_folder, out))
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name])
    facts = json.loads((out / "config.json").read_text())
    assert facts["networks"]["generator"]["image_px"] == 32
    assert facts["parameters"]["epochs"] == 3
    card = (out / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert "stylegan" in head["tags"]
    for words in ("Closer on all four.", "| mean_gender_score | 0.987 |", "Limits", "papermill"):
        assert words in card
    assert "with ohlora 0.0.7 and torch 2.11.1." in card


def test_one_file(tmp_path):
    save_weights(Discriminator(32, **SIZES), tmp_path / "d.safetensors")
    write_folder(tmp_path / "d.safetensors", tmp_path / "out")
    assert (tmp_path / "out" / "discriminator.safetensors").is_file()


def test_what_cannot_be_published(run_folder, tmp_path):
    (run_folder / "generator.safetensors").unlink()
    (run_folder / "discriminator.safetensors").unlink()
    with pytest.raises(ValueError, match="to publish"):
        write_folder(run_folder, tmp_path / "out")
    (run_folder / "summary.json").unlink()
    with pytest.raises(ValueError, match="not finished"):
        write_folder(run_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
