"""Built-in faces: reproducible, independently labelled, learnable."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from ohlora_lib.population.faces.faces import (
    CONTINUOUS,
    DEFAULT_SHARES,
    PROPERTIES,
    draw_attributes,
    render_faces,
)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return draw_attributes(range(4000))


def test_pixels_depend_on_index_and_seed_but_not_on_batch_or_order() -> None:
    images = render_faces(range(40))
    order = np.random.default_rng(0).permutation(40)
    assert np.array_equal(render_faces(order), images[order])
    assert np.array_equal(render_faces([17])[0], images[17])
    for other in (images[1], render_faces([0], seed=1)[0]):
        assert abs(images[0].astype(float) - other).mean() > 5


@pytest.mark.parametrize(("count", "image_px"), [(3, 32), (3, 65), (2, 512), (0, 64)])
def test_any_size_and_number(count: int, image_px: int) -> None:
    images = render_faces(range(count), image_px=image_px)
    assert images.shape == (count, image_px, image_px, 3)
    assert images.dtype == np.uint8
    assert count == 0 or images.std() > 20
    assert draw_attributes(range(count)).shape == (count, 10)


def test_a_face_is_the_same_at_every_size() -> None:
    good = {"quality": 1.0}
    large = render_faces(range(8), image_px=256, shares=good).astype(float)
    small = render_faces(range(8), image_px=64, shares=good).astype(float)
    shrunk = large.reshape(8, 64, 4, 64, 4, 3).mean((2, 4))
    assert abs(shrunk - small).mean() < 2  # two different faces differ by over 20


def test_label_table(table: pd.DataFrame) -> None:
    assert list(table.columns) == [*PROPERTIES, *CONTINUOUS]
    assert table.index.name == "image"
    assert all(table[name].dtype == np.int64 for name in PROPERTIES)
    assert set(np.unique(table[list(PROPERTIES)])) == {0, 1}
    for name in CONTINUOUS:
        assert table[name].between(-1 if name == "pose" else 0, 1).all()
        assert table[name].std() > 0.15
    pd.testing.assert_frame_equal(draw_attributes([5, 3, 3000]), table.loc[[5, 3, 3000]])


def test_shares_are_respected(table: pd.DataFrame) -> None:
    for name, share in DEFAULT_SHARES.items():
        assert table[name].mean() == pytest.approx(share, abs=0.03)
    other = draw_attributes(range(4000), shares={"glass": 0.8, "age": 0.0})
    assert other["glass"].mean() == pytest.approx(0.8, abs=0.03)
    assert other["age"].sum() == 0
    assert other["gender"].equals(table["gender"])

    correlation = table[list(PROPERTIES)].corr().to_numpy()
    assert abs(correlation - np.eye(4)).max() < 0.05  # 3 standard errors


def test_background_is_as_bright_as_labelled(table: pd.DataFrame) -> None:
    good = table[table["quality"] == 1].index[:100]
    corner = render_faces(good)[:, :6, :6].mean((1, 2, 3))
    assert np.corrcoef(corner, table.loc[good, "background"])[0, 1] > 0.8


@pytest.mark.parametrize("image_px", [16, 513])
def test_bad_input_says_what_is_allowed(image_px: int) -> None:
    with pytest.raises(ValueError, match=f"image_px is {image_px}; choose 32 to 512"):
        render_faces([0], image_px=image_px)
    with pytest.raises(ValueError, match=r"shares sets 'beard' to 0.5; .* for \['gender'"):
        draw_attributes([0], shares={"beard": 0.5})


def learnt_auroc(seed: int) -> dict[str, float]:
    """Held-out AUROC per property of a small CNN trained on 2,000 faces."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64), (64, 96)):
        conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
        layers += [conv, nn.MaxPool2d(2), nn.BatchNorm2d(after), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(96 * 16, 4))
    fit(net, *faces(range(2000)), epochs=9)
    images, targets = faces(range(10_000, 11_000))
    with torch.no_grad():
        scores = net.eval()(images)  # (1000, 4)
    return {name: roc_auc_score(targets[:, k], scores[:, k]) for k, name in enumerate(PROPERTIES)}


@pytest.mark.slow
def test_small_cnn_learns_every_property() -> None:
    auroc = learnt_auroc(0)
    assert min(auroc.values()) >= 0.97, auroc


def faces(indices: range) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(render_faces(indices)).permute(0, 3, 1, 2) / 127.5 - 1
    targets = draw_attributes(indices)[list(PROPERTIES)].to_numpy(np.float32)
    return images.contiguous(), torch.from_numpy(targets)


def fit(net: nn.Module, images: Tensor, targets: Tensor, *, epochs: int) -> None:
    batches = len(images) // 50
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, epochs * batches)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).view(batches, 50):
            mirrored = torch.rand(50, 1, 1, 1) < 0.5
            batch = torch.where(mirrored, images[rows].flip(3), images[rows])
            loss = nn.functional.binary_cross_entropy_with_logits(net(batch), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
