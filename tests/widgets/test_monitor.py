"""The monitor shows progress, and draws figures only if live."""

import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ohlora_lib import figures
from ohlora_lib.widgets import monitor as mon
from ohlora_lib.widgets.monitor import Monitor

CONCEPT = {"gender": 1.0, "age": 0.0}


def log(rows):
    k = np.arange(rows)
    return pd.DataFrame({
        "epoch": k // 5, "idx": k % 5, "d_loss": 1.0 + 0.1 * k, "g_loss": 1.0,
        "mean_gender_score": 0.5 + 0.04 * k, "mean_age_score": 0.4 - 0.03 * k,
        "real_fake_auroc": 0.6,
    })  # fmt: skip


def training(log, done, total, seconds=1.0, batches=25):
    """Stub with the attributes of a `FinetuneRun` that the monitor reads."""
    facts = {"batches_done": done, "total_batches": total, "batches_per_epoch": batches}
    tuner = SimpleNamespace(rows=log.to_dict("records"), elapsed_sec=seconds, **facts)
    return SimpleNamespace(tuner=tuner, grid=None)


def test_time_of_the_first_epoch_is_known_from_its_batches(monkeypatch):
    """After 3 of 25 batches, an estimate from the largest idx so far would give 0.8 epochs."""
    drawn, shown, draw = [], [], figures.progress
    monkeypatch.setattr(
        figures, "progress", lambda log, concept: drawn.append(log) or draw(log, concept)
    )
    place = SimpleNamespace(update=shown.append)
    monkeypatch.setattr(mon, "display", lambda *_, **__: place)
    Monitor(CONCEPT, live=True)(training(log(3), 3, 76))
    assert drawn[0]["time_epochs"].tolist() == pytest.approx([0, 0.04, 0.08])
    width, height = Image.open(io.BytesIO(shown[0].data)).size
    assert width > 2 * height > 400


@pytest.mark.parametrize("server", [False, True])
def test_the_progress_line_has_a_bar_only_in_jupyterlab(monkeypatch, capsys, server):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    if server:
        monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    monitor = Monitor(CONCEPT, live=False)
    monitor(training(log(6), 3, 10))
    monitor.close(finished=False)
    said = capsys.readouterr()
    bar = f" |{'█' * 6}{' ' * 14}| 3/10" * server
    assert said.err.strip().endswith(f"Fine-tuning 30%{bar}, 00:00 left, gender=0.70, age=0.25")
    assert said.out.strip() == "Interrupted; the checkpoint is saved."
    assert not monitor.drawn


def test_a_divergence_causes_one_warning_by_the_rules_of_the_report(capsys):
    monitor = Monitor(CONCEPT, live=False)
    wild = log(60).assign(d_loss=1.0)
    wild.loc[30:, "g_loss"] = 7.5
    for rows in (10, 29, 45, 45, 50, 60):
        monitor(training(wild[:rows], rows, 60, batches=7))
        if rows == 29:
            assert "Warning" not in capsys.readouterr().out
    said = [line for line in capsys.readouterr().out.splitlines() if "Warning" in line]
    assert said == ["Warning at epoch 8, batch 4: g_loss ends at 7.5, over 5."]


def test_drawing_takes_at_most_a_fiftieth_of_the_training(monkeypatch, capsys):
    """A one-minute training with one evaluation per second is drawn within the time budget."""
    shown, figure = [], SimpleNamespace(drawing=None, alt="")
    monkeypatch.setattr(figures, "progress", lambda log, _: shown.append(len(log)) or figure)
    place = SimpleNamespace(update=lambda _: None)
    monkeypatch.setattr(mon, "display", lambda *_, **__: place)
    drawing = SimpleNamespace(drawn=lambda *_, **__: b"")
    monkeypatch.setattr(mon, "style", drawing)
    clock = iter(np.arange(0, 1000, 0.15))  # a drawing takes 0.15 s
    monkeypatch.setattr(mon.time, "perf_counter", lambda: next(clock))
    monitor = Monitor(CONCEPT, live=True)
    for second in range(1, 61):
        monitor(training(log(second), second, 60, float(second), batches=59))
        assert sum(monitor.drawn) <= max(0.15, 0.02 * second) + 1e-9
    monitor.close(finished=True)
    assert shown[0] == 3  # first drawing at three rows
    assert shown[-1] == 60  # the final state
    assert 7 <= len(shown) <= 9
    assert capsys.readouterr().out.strip().endswith("Finished.")
