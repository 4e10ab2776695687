"""Shards over several processes give what one gives; what is finished is not done again."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from ohlora_lib.io.images import open_store, save_store
from ohlora_lib.io.weights import load_generator, save_weights
from ohlora_lib.nets import Generator, PropertyCNN
from ohlora_lib.properties.ensemble import load_ensemble
from ohlora_lib.selection import fanout
from ohlora_lib.selection import shards as cs
from ohlora_lib.selection.candidates import choose, stored
from ohlora_lib.selection.select import sample_images
from ohlora_lib.study.conditions import Condition
from ohlora_lib.study.parameters import SelectImages

COUNT = 2350  # three shards, the last one short, and within it a short batch
SKIP = 40


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Run folders of a base and of CNNs, and a population; nothing in them was trained."""
    root = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    save_weights(Generator(32, z_dim=8, w_dim=8, fmaps_base=64), root / "generator.safetensors")
    for prop in ("gender", "age"):
        for fold in range(2):
            net = PropertyCNN(prop, image_px=32, width=0.125)
            save_weights(net, root / "selector" / f"{prop}-fold{fold}.safetensors")
    (root / "summary.json").write_text("{}")
    images = list(sample_images(load_generator(root / "generator.safetensors"), COUNT, seed=9))
    save_store(root / "images" / "images.npy", torch.cat(images).numpy())
    return root


@pytest.fixture(scope="module")
def wanted(base):
    """Conditions that about a quarter of the samples meet."""
    cnns = load_ensemble(base / "selector", ["gender", "age"])
    scores = cnns.table(
        torch.from_numpy(np.array(open_store(base / "images" / "images.npy")[:500]))
    )
    return (
        Condition("gender", ">=", float(scores["gender_score"].median())),
        Condition("age", "<=", float(scores["age_score"].median())),
    )


@pytest.fixture
def job(base, wanted, tmp_path):
    common = {"seed": 3, "skip_first": SKIP, "device": "cpu", "precision": "float32"}
    return cs.ShardJob(
        source=base,
        fresh=True,
        cnn_run=base,
        wanted=wanted,
        properties=("gender", "age"),
        count=COUNT,
        folder=tmp_path / "shards",
        **common,
    )


def by_one_process(job, path):
    cnns = load_ensemble(job.cnn_run / "selector", job.properties)
    if job.fresh:
        generator = load_generator(job.source / "generator.safetensors")
        batches = sample_images(generator, job.count, seed=job.seed)
    else:
        batches = stored(open_store(job.source / "images" / "images.npy"), torch.device("cpu"))
    return choose(batches, cnns, job.wanted, path, skip_first=job.skip_first)


def assert_same(one, other):
    assert one.scores.equals(other.scores)
    assert one.selection.costs.equals(other.selection.costs)
    for name in ("kept", "thrown"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.table().equals(other.table())


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("fresh", [True, False], ids=["samples", "population"])
def test_two_processes_give_what_one_gives(job, tmp_path, fresh):
    job = replace(job, fresh=fresh)
    one = by_one_process(job, tmp_path / "one.npy")
    two = cs.choose(job, cs.score_all(job, workers=2), tmp_path / "two.npy")
    assert_same(one, two)
    assert 100 < len(two.kept) < COUNT / 2
    assert len(two.thrown) == 48
    assert not job.folder.exists()


def test_one_process_stopped_goes_on_with_the_next_shard(job, tmp_path, monkeypatch):
    one = by_one_process(job, tmp_path / "one.npy")
    score, seen = cs.score_shard, []

    def stopped(job, start):
        seen.append(start)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return score(job, start)

    monkeypatch.setattr(cs, "score_shard", stopped)
    with pytest.raises(KeyboardInterrupt):
        cs.choose(job, cs.score_all(job), tmp_path / "two.npy")
    assert not (tmp_path / "two.npy").exists()
    again = cs.choose(job, cs.score_all(job), tmp_path / "two.npy")
    assert seen == [0, 1000, 2000, 2000]
    assert_same(one, again)
    assert not job.folder.exists()


def here(monkeypatch):
    """Lets shards be scored in this process."""

    @contextmanager
    def pool(workers):
        with ThreadPoolExecutor(workers) as executor:
            yield fanout.Pool(executor, lambda: workers, "")

    monkeypatch.setattr(fanout, "processes", pool)


@pytest.mark.usefixtures("one_thread")
def test_finished_shards_are_kept_and_others_results_are_not_taken(job, tmp_path, monkeypatch):
    here(monkeypatch)
    assert cs.score_shard(job, 1000) == 1000
    kept = {path: path.stat().st_mtime_ns for path in job.home.iterdir()}
    assert len(kept) == 2
    other = replace(job, seed=4)
    assert cs.score_shard(other, 0) == 0
    assert list(cs.score_all(job))[0] == 1000
    assert not other.home.exists()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert_same(by_one_process(job, tmp_path / "one.npy"), cs.choose(job, [], tmp_path / "a.npy"))


@pytest.mark.usefixtures("one_thread")
def test_a_dead_end_writes_nothing_and_another_size_is_named(job, tmp_path, monkeypatch):
    here(monkeypatch)
    hopeless = replace(job, wanted=(Condition("age", ">=", 2.0),), count=200)
    with pytest.raises(ValueError, match="Loosen age"):
        cs.choose(hopeless, cs.score_all(hopeless), tmp_path / "kept.npy")
    assert not list(tmp_path.glob("*.npy"))
    small = tmp_path / "small"
    save_store(small / "images" / "images.npy", np.zeros((5, 64, 64, 3), np.uint8))
    (small / "summary.json").write_text("{}")
    wrong = replace(job, source=small, fresh=False, count=5)
    with pytest.raises(ValueError, match=r"64 px, the property CNNs read \[32\] px"):
        list(cs.score_all(wrong))


def die_once(mark, item):
    """Kills its process the first time it is called with 2."""
    if item == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (mark.parent / f"done-{item}").touch()
    return item


def die(item):
    os.kill(os.getpid(), signal.SIGKILL)


class Bound:
    """A function of one more argument that other processes can load."""

    def __init__(self, function, *first):
        self.function, self.first = function, first

    def __call__(self, item):
        return self.function(*self.first, item)


@pytest.mark.slow
def test_work_of_a_dead_process_is_done_again_a_few_times(tmp_path):
    def pool():
        return fanout.processes(2)

    found = list(fanout.finish_all(pool, Bound(die_once, tmp_path / "mark"), [0, 1, 2, 3]))
    assert sorted(found) == [0, 1, 2, 3]
    assert (tmp_path / "mark").exists()
    with pytest.raises(RuntimeError, match="died 3 times in a row"):
        list(fanout.finish_all(pool, die, [1]))


def test_a_stage_without_scoring_takes_no_workers():
    given = {"candidates": "table", "scores_csv": "a.csv", "concept": {"age": 0.0}}
    given |= {"keep": {"age": 0.1}}
    SelectImages.checked(given, "x")
    with pytest.raises(ValueError, match="nothing to score"):
        SelectImages.checked({**given, "workers": 2}, "x")


def test_shards_of_other_inputs_lie_elsewhere(job, tmp_path):
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "summary.json").write_text('{"seed": 1}')
    places = {job.home, replace(job, cnn_run=changed).home, replace(job, count=9).home}
    assert len(places) == 3
    before = replace(job, cnn_run=changed).home
    (changed / "summary.json").write_text('{"seed": 2}')  # the CNNs were made anew
    assert replace(job, cnn_run=changed).home != before
    assert replace(job, seed=job.seed).home == job.home
