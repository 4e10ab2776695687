"""Checkpoints take little time and are no rarer than allowed."""

from ohlora_lib.training import checkpoint


def test_checkpoints_take_little_of_the_time(monkeypatch):
    """A save takes 3 s, a batch 1 s, an epoch 10 s: a save per epoch would take too long."""
    clock = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])

    def save(*_):
        clock[0] += 3.0

    monkeypatch.setattr(checkpoint, "save_state", save)
    pace, saves = checkpoint.Pace(every_minutes=10.0), 0
    for second in range(1, 7201):
        clock[0] += 1.0
        if pace.due(epoch_ended=second % 10 == 0):
            pace.save(None, {}, {})
            saves += 1
            if saves > 1:
                assert pace.share <= checkpoint.MOST_SHARE + 1e-9
    assert 40 <= saves <= 49  # as many as the share allows
    rare = checkpoint.Pace(every_minutes=10.0)
    clock[0] += 599.0
    assert not rare.due()
    clock[0] += 1.0
    assert rare.due()
