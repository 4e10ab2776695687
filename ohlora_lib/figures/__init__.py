"""The figures, each drawn from tables, with a sentence that says what it shows."""

from ohlora_lib.figures.samples import (
    calibration,
    fold_losses,
    judges,
    label_curve,
    label_scores,
    leakage,
    sample_scores,
    selection_costs,
)
from ohlora_lib.figures.style import Figure
from ohlora_lib.figures.training import (
    auroc,
    diversity,
    heldout,
    losses,
    progress,
    property_comparison,
    property_groups,
    scores,
)
