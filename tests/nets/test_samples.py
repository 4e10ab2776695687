"""A seed determines the samples, and conversion between pixels and floats loses nothing."""

import pytest
import torch

from ohlora_lib.nets import Generator
from ohlora_lib.nets.samples import draw_latents, sample_images, to_signed, to_uint8, to_unit


def test_every_level_survives_conversion_to_floats_and_back():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    signed = to_signed(levels)
    assert (signed.min().item(), signed.max().item()) == (-1.0, 1.0)
    assert (to_unit(levels).min().item(), to_unit(levels).max().item()) == (0.0, 1.0)
    assert torch.equal(to_uint8(signed), levels)
    half_a_level = 0.9 / 255
    assert torch.equal(to_uint8((signed + half_a_level).clamp(-1, 1)), levels)  # not truncated


def test_axes_are_not_mixed_up_and_pixels_do_not_wrap():
    images = torch.randint(0, 256, (5, 8, 8, 3), dtype=torch.uint8)
    signed = to_signed(images)
    assert signed[2, 1, 3, 5].item() == pytest.approx(images[2, 3, 5, 1].item() / 127.5 - 1)
    x = torch.tensor([-7.0, 7.0]).view(1, 1, 1, 2).expand(1, 3, 2, 2)
    assert to_uint8(x)[0, 0, :, 0].tolist() == [0, 255]  # wrapping would give 6 and 249


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return Generator(8, z_dim=8, w_dim=8, fmaps_base=64).eval()


def draw(generator, count, **options):
    return torch.cat(list(sample_images(generator, count, **{"seed": 5, "batch": 4, **options})))


def test_a_seed_draws_its_images_from_any_start_and_nothing_else(generator):
    before = torch.get_rng_state()
    first = draw(generator, 10)
    assert (first.shape, first.dtype) == ((10, 8, 8, 3), torch.uint8)
    assert torch.equal(first, draw(generator, 10))
    assert not torch.equal(first, draw(generator, 10, seed=6))
    assert len({image.numpy().tobytes() for image in first}) == 10  # no latent repeats
    assert torch.equal(draw(generator, 6, start=4), first[4:])
    assert torch.equal(draw(generator, 3), first[:3])
    assert torch.equal(torch.get_rng_state(), before)


def test_latents_are_standard_normal_and_those_of_the_published_samples(generator):
    z, properties = draw_latents(generator, 4000, seed=1)
    for values in (z, properties):
        assert abs(values.mean().item()) < 0.03
        assert values.std().item() == pytest.approx(1, abs=0.03)
    assert not torch.equal(z[0], draw_latents(generator, 1, seed=1, index=1)[0][0])
    plain = Generator(8, z_dim=8, w_dim=8, fmaps_base=64, num_properties=0)
    assert draw_latents(plain, 2, seed=1)[1] is None
    z, _ = draw_latents(generator, 1, seed=2**31 - 1, index=99_999)
    assert z[0, :2].tolist() == pytest.approx([-0.33230975, 2.03738522])
