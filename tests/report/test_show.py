"""What is shown is kept under a name of its own."""

import pytest

from ohlora_lib.report import show


@pytest.mark.parametrize(
    "texts",
    [
        ("losses-a b", "losses-a_b", "losses-a/b"),
        ("x" * 90 + "1", "x" * 90 + "2"),
        ("../../up", "______up"),
    ],
)
def test_two_texts_never_share_a_file(texts):
    names = [show.file_name(text) for text in texts]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= 80
        assert "/" not in name
        assert "." not in name


def test_a_plain_name_stays_as_it_is():
    assert show.figure_file("figure-3-age-glass") == "figures/figure-3-age-glass.png"
