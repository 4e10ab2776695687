"""A run killed at any moment and resumed gives the same results as an uninterrupted one."""

import pytest

from tests.system.faults.kill import Harness


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "late"),
    [
        *(("finetune", "finishing"), ("stylegan2", "finishing")),
        *(("base", "writing weights"), ("cnn", "writing weights")),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(tmp_path, what, late):
    harness = Harness(what, tmp_path, seed=1)
    harness.reference()
    anywhere, aimed = harness.kill(0), harness.kill(2 * harness.places.index(late) + 1)
    assert (anywhere.differs, aimed.differs) == ([], [])
    assert aimed.resumed != "the start"  # it resumed from a checkpoint
