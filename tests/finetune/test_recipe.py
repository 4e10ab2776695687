"""What v8 and v9 train and when they stop updating, against the published lists."""

import math

import pytest
import torch

from ohlora_lib.finetune.recipe import (
    RECIPES,
    StepRule,
    only_trainable,
    trainable_names,
)
from ohlora_lib.nets import Discriminator, Generator, stylegan2

GENERATOR = {
    "v8": ["mapping.", "synthesis.layer0.", "synthesis.layer1.", "synthesis.output0."],
    "v9": [
        "mapping.",
        *(f"synthesis.layer{k}." for k in range(6)),
        *(f"synthesis.output{k}." for k in range(3)),
    ],
}
DISCRIMINATOR = {
    "v8": ["layer12.", "layer13.", "layer14."],
    "v9": [*(f"layer{k}." for k in range(8, 15)), "input5.", "input6."],
}


@pytest.fixture(scope="module")
def nets():
    """Networks of 256 px with few channels, which do not affect the layer names."""
    sizes = {"fmaps_base": 256, "fmaps_max": 4}
    discriminator = Discriminator(256, **sizes)
    plain = Generator(256, z_dim=8, w_dim=8, **sizes)
    split = Generator(256, z_dim=8, w_dim=8, wide_dim=12, **sizes)
    return {"v8": (plain, discriminator), "v9": (split, discriminator)}


@pytest.mark.parametrize("version", ["v8", "v9"])
def test_published_layers_at_256_px(nets, version):
    recipe = RECIPES[version]
    for net, places, prefixes in zip(
        nets[version],
        (recipe.generator_trainable, recipe.discriminator_trainable),
        (GENERATOR[version], DISCRIMINATOR[version]),
        strict=True,
    ):
        every = [name for name, _ in net.named_parameters()]
        wanted = [name for name in every if any(name.startswith(p) for p in prefixes)]
        assert trainable_names(net, places) == wanted
        assert 0 < len(wanted) < len(every)


def test_published_rules():
    v8, v9 = RECIPES["v8"], RECIPES["v9"]
    assert not v8.split_mapping
    assert v9.split_mapping
    assert v8.discriminator_rule.max_updates == 1
    assert v9.discriminator_rule == StepRule(4, 2.5)
    assert v8.generator_rule == v9.generator_rule == StepRule(4, 2.0)


@pytest.mark.parametrize("image_px", [16, 64])
def test_other_resolutions_train_the_same_resolutions(image_px):
    generator = Generator(image_px, z_dim=8, w_dim=8, fmaps_base=64, wide_dim=12)
    names = trainable_names(generator, RECIPES["v9"].generator_trainable)
    layers = {name.split(".")[1] for name in names if "synthesis.layer" in name}
    assert layers == {f"layer{k}" for k in range(6)}
    blocks = int(math.log2(image_px)) - 1
    discriminator = Discriminator(image_px, fmaps_base=64)
    names = trainable_names(discriminator, RECIPES["v9"].discriminator_trainable)
    inputs = {name.split(".")[0] for name in names if name.startswith("input")}
    assert inputs == {f"input{blocks - 1}", f"input{blocks - 2}"}
    layers = {name.split(".")[0] for name in names if name.startswith("layer")}
    assert layers == {f"layer{k}" for k in range(2 * blocks - 6, 2 * blocks + 1)}


BLOCKS = {"v8": ("4",), "v9": ("4", "8", "16")}


@pytest.mark.parametrize(("version", "image_px"), [("v8", 256), ("v9", 16), ("v9", 256)])
def test_a_stylegan2_trains_the_blocks_of_these_resolutions(version, image_px):
    sizes = {"channel_base": 256, "channel_max": 4}
    recipe, wide_dim = RECIPES[version], 12 * (version == "v9")
    net = stylegan2.Generator(image_px, z_dim=8, w_dim=8, wide_dim=wide_dim, **sizes)
    judge = stylegan2.Discriminator(image_px, **sizes)
    blocks = [f"b{px}." for px in BLOCKS[version]]
    wanted = {
        net: ("mapping.", *(f"synthesis.{block}" for block in blocks)),
        judge: tuple(blocks),
    }
    places = recipe.generator_trainable, recipe.discriminator_trainable
    for (one, prefixes), parts in zip(wanted.items(), places, strict=True):
        within = [name for name, _ in one.named_parameters() if name.startswith(prefixes)]
        assert trainable_names(one, parts) == [n for n in within if ".fromrgb." not in n]


def test_unknown_layer_group(nets):
    message = "a Generator of 256 px has no layer group 'layers@512px'; it has mapping, layers@4px"
    with pytest.raises(ValueError, match=message):
        trainable_names(nets["v9"][0], ["mapping", "layers@512px"])


@pytest.mark.parametrize(
    ("own", "other", "taken", "wanted"),
    [
        (1.9, 1.0, 1, True),  # below twice the other: caught up
        (2.0, 1.0, 1, False),  # equal does not count as below
        (9.0, 1.0, 3, False),
        (9.0, 1.0, 4, True),  # maximum number of updates
        (9.0, None, 1, True),  # no other loss yet: one update suffices
    ],
)
def test_step_rule(own, other, taken, wanted):
    assert StepRule(4, 2.0).caught_up(own, other, taken) is wanted


def test_only_trainable_restores_flags_even_after_an_error():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    net[0].bias.requires_grad_(False)
    before = [p.requires_grad for p in net.parameters()]
    with only_trainable(net, ["0.bias", "1.weight"]):
        flags = {name: p.requires_grad for name, p in net.named_parameters()}
        assert [name for name, flag in flags.items() if flag] == ["0.bias", "1.weight"]
        with only_trainable(net, []):
            assert not any(p.requires_grad for p in net.parameters())
        assert {name: p.requires_grad for name, p in net.named_parameters()} == flags
    assert [p.requires_grad for p in net.parameters()] == before
    with pytest.raises(RuntimeError, match="inside"), only_trainable(net, []):
        raise RuntimeError("inside")
    assert [p.requires_grad for p in net.parameters()] == before
