"""Trains one fold of a published property CNN, which scores one property.

Source: the published study's training (BCE, AdamW, cosine schedule of period 10, early stop).
"""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from ohlora_lib.nets import PropertyCNN
from ohlora_lib.nets.compute import autocast
from ohlora_lib.nets.property_cnn import LAYOUTS
from ohlora_lib.properties.lesson import Fold, Lesson, Rows, fold_seed

WHOLE = (0.0, 1.0, 0.0, 1.0)  # crop
COSINE_PERIOD = 10  # epochs; stepped every epoch, so the learning rate then rises again


def with_crop(lesson: Lesson, crop: Sequence[float] | None) -> Lesson:
    """Returns the lesson for CNNs that see this crop; None is the property's own."""
    return replace(lesson, settings=replace(lesson.settings, crops={lesson.name: crop}))


def choose_crop(lesson: Lesson, fold: int, rows: Rows) -> Fold:
    """Trains a fold with the property's own crop and with the whole image.

    Returns the one with the higher validation AUROC; its network has the crop.
    """
    own = LAYOUTS.get(lesson.name, LAYOUTS["gender"]).crop
    tried = [
        train_fold(with_crop(lesson, crop), fold, rows) for crop in dict.fromkeys((own, WHOLE))
    ]
    return max(tried, key=lambda one: one.auroc[lesson.name])


def train_fold(lesson: Lesson, fold: int, rows: Rows) -> Fold:
    """Trains a fold, repeating it while its loss exceeds the limit; returns the best attempt.

    Args:
        lesson: Training data and settings.
        fold: Number of the fold; fold and attempt seed the training.
        rows: Row numbers for training and validation, as `stratified_folds` returns them.
    """
    limit, best = lesson.settings.loss_limit.get(lesson.name, float("inf")), None
    for attempt in range(1, lesson.settings.max_attempts + 1):
        done = _attempt(lesson, fold, rows, attempt)
        if best is None or done.best_loss < best.best_loss:
            best = done
        if best.best_loss <= limit:
            break
    return best


def _attempt(lesson: Lesson, fold: int, rows: Rows, attempt: int) -> Fold:
    """Trains until the validation loss stalls for `patience` epochs; keeps the best epoch."""
    settings, prop = lesson.settings, lesson.name
    seed = fold_seed(settings, fold, attempt)
    torch.manual_seed(seed)
    net, shuffle = lesson.new_net(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate.get(prop, 1e-4))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=COSINE_PERIOD)
    train, valid = (torch.from_numpy(part).to(lesson.images.device) for part in rows)
    truth = lesson.target[valid]  # (V, 1)
    best_loss, best_epoch, best_state, history = float("inf"), 0, {}, []
    for epoch in range(settings.max_epochs):
        train_loss = train_epoch(net, optimizer, lesson, train, shuffle)
        schedule.step()
        logits = lesson.logits(net, valid)
        valid_loss = F.binary_cross_entropy_with_logits(logits, truth).item()
        history.append({"epoch": epoch, "train_loss": train_loss, "valid_loss": valid_loss})
        lesson.check_loss(fold, history[-1])
        if valid_loss < best_loss:
            best_loss, best_epoch = valid_loss, epoch
            best_state = {k: v.clone() for k, v in net.state_dict().items()}
        if epoch - best_epoch >= settings.patience:
            break
    net.load_state_dict(best_state)
    scores = torch.sigmoid(lesson.logits(net, valid)).cpu().numpy()  # (V, 1)
    auroc = lesson.validation_auroc(rows[1], scores)
    return Fold(prop, fold, net.eval(), pd.DataFrame(history), auroc, best_loss, attempt)


def train_epoch(
    net: PropertyCNN,
    optimizer: torch.optim.Optimizer,
    lesson: Lesson,
    rows: Tensor,
    shuffle: torch.Generator,
) -> float:
    """Trains one epoch on some rows of the lesson, in shuffled order; returns the mean loss."""
    net.train()
    images, settings = lesson.images, lesson.settings
    order = rows[torch.randperm(len(rows), generator=shuffle).to(rows.device)]
    total = torch.zeros((), device=images.device)
    for batch in order.split(settings.batch):
        pixels = lesson.pixels(batch)  # (B, 3, H, H)
        if settings.mirror:
            flip = torch.rand(len(batch), 1, 1, 1, generator=shuffle).to(pixels.device) < 0.5
            pixels = torch.where(flip, pixels.flip(3), pixels)
        with autocast(images.device, settings.precision):
            logits = net.logits(pixels.contiguous(memory_format=torch.channels_last))
        loss = F.binary_cross_entropy_with_logits(logits, lesson.target[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(batch)
    return (total / len(rows)).item()
