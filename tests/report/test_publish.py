"""Publishing: a folder ready to upload, which only goes anywhere when asked to."""

import json
import sys
import types

import pytest
import torch
import yaml

from ohlora_lib.io.weights import load_generator, save_weights
from ohlora_lib.nets import Discriminator, Generator
from ohlora_lib.report.publish import fetch, upload, write_folder
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


class Hub(types.ModuleType):
    """Stands in for the hub's library; keeps what it is asked."""

    def __init__(self, error=None):
        super().__init__("huggingface_hub")
        self.asked, self.error = [], error
        self.HfApi = lambda: self

    def create_repo(self, model, **options):
        self.asked.append(("create", model, options))

    def upload_folder(self, **options):
        if self.error:
            raise self.error
        self.asked.append(("upload", options))
        return f"https://hub/{options['repo_id']}"

    def hf_hub_download(self, model, file, *, revision, local_dir):
        if self.error:
            raise self.error
        self.asked.append(("fetch", model, file, revision))
        return f"{local_dir}/{file}"


@pytest.fixture
def hub(monkeypatch):
    stand_in = Hub()
    monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in)
    return stand_in


def test_folder_of_a_run(run_folder, tmp_path, hub):
    out = tmp_path / "out"
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
    assert hub.asked == []  # nothing goes anywhere by itself


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


def test_upload_and_fetch(tmp_path, hub):
    assert upload(tmp_path, "me/look", private=True) == "https://hub/me/look"
    assert hub.asked[0] == ("create", "me/look", {"private": True, "exist_ok": True})
    assert hub.asked[1][1]["folder_path"] == str(tmp_path)
    path = fetch("me/look", "generator.safetensors", tmp_path, revision="v1")
    assert path == tmp_path / "generator.safetensors"
    assert hub.asked[2] == ("fetch", "me/look", "generator.safetensors", "v1")


def test_without_network_or_library_it_is_one_line(tmp_path, hub, monkeypatch):
    hub.error = OSError("cannot reach\nthe hub")
    for call in (lambda: upload(tmp_path, "me/look"), lambda: fetch("me/look", "g", tmp_path)):
        with pytest.raises(ValueError, match="cannot reach"):
            call()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: upload(tmp_path, "me/look"), lambda: fetch("me/look", "g", tmp_path)):
        with pytest.raises(ValueError, match=r"pip install 'ohlora\[hub\]'"):
            call()
