"""What many tests check: an error of one line, equal tensors."""

import pytest
import torch


def complaint(call, *args, **options):
    """The message of the ValueError that a call raises, which must be of one line."""
    with pytest.raises(ValueError, match=r"\A[^\n]{1,600}\Z") as caught:
        call(*args, **options)
    return str(caught.value)


def same(a, b):
    """Whether two state dicts have the same names, number formats and values."""
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a
    )
