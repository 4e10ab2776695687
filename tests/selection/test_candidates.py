"""Selecting chunk by chunk equals selecting all at once, interrupted or not."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from ohlora_lib.io.images import new_store, open_store
from ohlora_lib.io.weights import load_generator, save_weights
from ohlora_lib.nets import Generator, PropertyCNN
from ohlora_lib.nets.samples import sample_images
from ohlora_lib.population.labels import save_table
from ohlora_lib.properties.ensemble import load_ensemble
from ohlora_lib.properties.training import split_table
from ohlora_lib.selection import candidates as cd
from ohlora_lib.study.parameters import SelectImages
from ohlora_lib.study.run_folder import Run
from tests.checks import complaint

COUNT = 250  # three chunks, the last one shorter
SKIP = 40
PROPS = ["gender", "age"]
INPUTS = {"base_run": "runs", "cnn_run": "runs", "population_run": "runs"}


def save_store(folder, *parts):
    with new_store(folder / "images" / "images.npy", parts[0].shape[1]) as store:
        for part in parts:
            store.append(part)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Untrained base, untrained CNNs and a population in one run folder."""
    root = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    save_weights(Generator(32, z_dim=8, w_dim=8, fmaps_base=64), root / "generator.safetensors")
    for prop in PROPS:
        net = PropertyCNN(prop, image_px=32, width=0.125)
        save_weights(net, root / "selector" / f"{prop}-fold0.safetensors")
    (root / "summary.json").write_text("{}")
    drawn = sample_images(load_generator(root / "generator.safetensors"), COUNT, seed=3)
    save_store(root, *(part.numpy() for part in drawn))
    return root


@pytest.fixture(scope="module")
def scores(runs):
    """Scores of all candidates, computed 100 at a time."""
    cnns = load_ensemble(runs / "selector", PROPS)
    images = torch.from_numpy(np.array(open_store(runs / "images" / "images.npy")))
    return pd.concat([cnns.table(part) for part in images.split(100)], ignore_index=True)


@pytest.fixture
def config(scores):
    """Parameters with conditions that about a quarter of the samples meet."""
    keep = {prop: float(scores[f"{prop}_score"].median()) for prop in PROPS}
    given = {**INPUTS, "samples": COUNT, "seed": 3, "skip_first": SKIP, "keep": keep}
    return SelectImages.checked({**given, "concept": {"gender": 1.0, "age": 0.0}}, "x")


def changed(config, **values):
    return config.model_copy(update=values)


def open_run(config, runs, folder, **options):
    path = folder / "outputs" / "a" / "04_select_images"
    return Run(path, "04_select_images", config.config(), dict.fromkeys(INPUTS, runs), **options)


def find(config, run):
    return cd.find_candidates(config, run, device=torch.device("cpu"), precision="float32")


def choose(config, run):
    return cd.choose(config, run, find(config, run))


def assert_same(one, other):
    assert one.table().equals(other.table())
    assert one.selection.costs.equals(other.selection.costs)
    assert np.array_equal(one.kept, other.kept)
    assert np.array_equal(one.thrown, other.thrown)


@pytest.mark.parametrize("source", ["base", "population"])
def test_kept_are_those_that_meet_every_condition(config, runs, scores, tmp_path, source):
    config = changed(config, candidates=source)
    run = open_run(config, runs, tmp_path)
    chosen = choose(config, run)
    flags = scores["gender_score"] >= np.float32(config.keep["gender"])
    flags &= scores["age_score"] <= np.float32(config.keep["age"])
    flags[:SKIP] = False
    images = open_store(runs / "images" / "images.npy")
    assert 10 < flags.sum() < COUNT / 2
    table = chosen.table()
    assert table["img_no"].tolist() == list(range(COUNT))
    assert table[[*scores]].equals(scores)
    assert table["kept"].tolist() == flags.astype(int).tolist()
    assert np.array_equal(chosen.kept, images[flags])
    assert np.array_equal(chosen.thrown, images[~flags][:48])
    assert [path.name for path in run.path.rglob("*.np*")] == ["selected.npy"]


def test_an_interrupted_stage_resumes_at_the_next_chunk_and_a_finished_one_is_read(
    config, runs, tmp_path, monkeypatch
):
    whole = choose(config, open_run(config, runs, tmp_path / "whole"))
    run, draw, seen = open_run(config, runs, tmp_path), cd.Candidates.draw, []

    def stopped(offered, start):
        seen.append(start)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return draw(offered, start)

    monkeypatch.setattr(cd.Candidates, "draw", stopped)
    with pytest.raises(KeyboardInterrupt):
        choose(config, run)
    assert not list(run.path.rglob("selected.npy"))
    again = choose(config, run)
    assert seen == [0, 100, 200, 200, 0]  # the last 0 draws examples of rejected images
    assert_same(whole, again)
    again.table().to_csv(run.path / "scores.csv", index=False)
    assert_same(whole, choose(config, open_run(config, runs, tmp_path, before={})))
    assert seen[5:] == [0]


def test_chunks_of_other_inputs_are_not_reused(config, runs, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "summary.json").write_text('{"seed": 1}')
    run = open_run(config, runs, tmp_path)
    offered, seeded = find(config, run), changed(config, seed=4)
    cases = [(run, offered), (run, replace(offered, precision="bfloat16"))]
    cases += [(open_run(*made, tmp_path), offered) for made in ((config, other), (seeded, runs))]
    assert len({cd.chunk_folder(*case) for case in cases}) == 4


def test_an_empty_selection_writes_no_images_and_new_parameters_start_anew(config, runs, tmp_path):
    config = changed(config, keep={"age": 0.0})
    run = open_run(config, runs, tmp_path)
    assert "Loosen age" in complaint(choose, config, run)
    assert not list(run.path.rglob("selected.npy"))
    left = cd.chunk_folder(run, find(config, run))
    assert len(list(left.iterdir())) == 3
    choose(loose := changed(config, keep={"age": 1.0}), open_run(loose, runs, tmp_path))
    assert not left.exists()


def test_a_score_table_alone(config, runs, scores, tmp_path):
    scores.to_csv(tmp_path / "scores.csv", index=False)
    config = changed(config, candidates="table", scores_csv=str(tmp_path / "scores.csv"))
    run = open_run(config, runs, tmp_path, makes=config.MAKES)
    chosen = choose(config, run)
    save_table(run.path / "scores.csv", chosen.table())
    run.finish()
    assert len(chosen.kept) == 0
    assert chosen.table()["kept"].sum() == chosen.selection.kept.sum() > 0
    assert chosen.means().loc["age_score", "kept"] < chosen.means().loc["age_score", "candidates"]


def test_scores_match_their_images_and_images_without_a_row_are_never_kept(config, runs, tmp_path):
    source = tmp_path / "population"
    images = np.array(open_store(runs / "images" / "images.npy")[:3])
    save_store(source, images)
    (source / "summary.json").write_text("{}")
    (source / "files.csv").write_text("img_no,file\n0,a.png\n,broken.png\n1,b.png\n2,c.png\n")
    (tmp_path / "scores.csv").write_text("file,age\nc.png,0.9\na.png,0.2\nbroken.png,0.1\n")
    given = {"candidates": "population", "scores_csv": str(tmp_path / "scores.csv")}
    config = changed(config, keep={"age": 1.0}, skip_first=0, **given)
    run = open_run(config, runs, tmp_path)
    run.inputs["population_run"] = source
    chosen = choose(config, run)
    assert chosen.table()["age_score"].tolist()[::2] == [0.2, 0.9]
    assert chosen.selection.kept.tolist() == [True, False, True]
    assert np.array_equal(chosen.kept, images[[0, 2]])


def test_cnns_of_another_image_size_are_an_error(config, runs, tmp_path):
    save_store(tmp_path, np.zeros((5, 64, 64, 3), np.uint8))
    config = changed(config, candidates="population")
    run = open_run(config, runs, tmp_path)
    run.inputs = {"population_run": tmp_path, "cnn_run": runs}
    (tmp_path / "summary.json").write_text("{}")
    assert "64 px, but the property CNNs expect [32] px" in complaint(choose, config, run)


def test_selected_images_that_trained_the_judge_are_counted(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (60, 8, 8, 3), dtype=np.uint8)
    population, cnns = tmp_path / "01", tmp_path / "03"
    cnns.mkdir()
    save_store(population, images)
    halves = {"selector": np.arange(30), "judge": np.arange(30, 60)}
    split_table(halves, pd.Series(range(60), name="img_no")).to_csv(cnns / "split.csv")
    (cnns / "config.json").write_text(json.dumps({"population_run": str(population)}))
    assert cd.judge_overlap(images[:30], cnns) == 0
    assert cd.judge_overlap(images[25:34], cnns) == 4
