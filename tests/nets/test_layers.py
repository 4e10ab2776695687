"""Building blocks agree with their definitions, computed the slow way."""

import math

import pytest
import torch
import torch.nn.functional as F

from ohlora_lib.nets.fast import convolve
from ohlora_lib.nets.layers import EqualDense, Noise, Style, minibatch_deviation

WAYS = [  # from 32 px on, styles use group norm
    (side, layout) for side in (8, 32) for layout in (torch.contiguous_format, torch.channels_last)
]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_equal_dense_keeps_variance_and_scales_bias():
    layer = EqualDense(256, 2000, gain=1.0, lr_multiplier=0.01)
    with torch.no_grad():
        layer.bias.fill_(300.0)
        y = layer(torch.randn(8, 256))
    assert layer.weight.std().item() == pytest.approx(100, rel=0.02)  # stored as N(0, 1) / 0.01
    assert y.mean().item() == pytest.approx(3.0, abs=0.1)  # a bias not scaled would give 300
    assert y.std().item() == pytest.approx(1.0, rel=0.05)


def test_noise_is_one_plane_scaled_per_channel():
    layer = Noise(3, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.0, 1.0, -2.0]))
    y = layer(torch.zeros(2, 3, 4, 4), "random")
    assert y[:, 0].abs().max() == 0
    torch.testing.assert_close(y[:, 2], -2 * y[:, 1])
    assert not torch.equal(y[0], y[1])  # each image has its own plane
    fixed = layer(torch.zeros(2, 3, 4, 4), "fixed")
    torch.testing.assert_close(fixed[:, 1], layer.noise[0].expand(2, 4, 4))


@pytest.mark.parametrize(("side", "layout"), WAYS)
def test_style_has_the_values_and_gradients_of_instance_norm(side, layout):
    layer, w = Style(5, 3).double(), torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 3, side, side, dtype=torch.float64) * 3 + 2
    x = x.contiguous(memory_format=layout).requires_grad_()
    upstream = torch.randn_like(x)
    scale, shift = F.linear(w, layer.weight / math.sqrt(5), layer.bias).chunk(2, dim=1)
    wanted = F.instance_norm(x, eps=1e-8) * (scale + 1)[..., None, None] + shift[..., None, None]
    found, leaves = layer(x, w), [x, w, *layer.parameters()]
    torch.testing.assert_close(found, wanted)
    gradients = (torch.autograd.grad(y, leaves, upstream) for y in (found, wanted))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("side", "layout"), WAYS)
def test_style_in_16_bits_has_the_values_and_gradients_of_32(side, layout):
    layer, w = Style(5, 4), torch.randn(3, 5, requires_grad=True)
    x, upstream = torch.randn(2, 3, 4, side, side).bfloat16().unbind()
    x, found = (x * 2 + 1).contiguous(memory_format=layout), []
    for dtype in (torch.bfloat16, torch.float32):
        leaves = [x.to(dtype).requires_grad_(), w, *layer.parameters()]
        y = layer(*leaves[:2])
        assert y.dtype == dtype
        found.append([y, *torch.autograd.grad(y, leaves, upstream.to(dtype))])
    for half, full in zip(*found, strict=True):
        assert (half.float() - full).norm() < 0.01 * full.norm()


@pytest.mark.parametrize("side", [8, 32, 256])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("spread", [0.0, 0.002, 0.02, "a few pixels"])
def test_style_keeps_a_channel_far_from_zero(dtype, side, spread):
    """A dead channel is constant; its mean in 16 bits, times 1 / 1e-4, would swamp the shift."""
    layer, w, x = Style(5, 4), torch.randn(2, 5), torch.full((2, 4, side, side), 1.7)
    if spread == "a few pixels":
        x[:, :, :2, :3] *= 1.02
    else:
        x += torch.randn(x.shape) * spread
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    found, exact = layer(x, w), layer.double()(x.double(), w.double())
    assert exact.abs().max() > 0.5
    assert (found.double() - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize(
    ("batch", "most", "group"),
    [*((16, 16, 16), (32, 16, 16), (18, 16, 9), (1, 16, 1)), *((8, 4, 4), (6, 4, 3), (5, 4, 1))],
)
def test_minibatch_deviation_groups(batch, most, group):
    """Group k holds images k, k + B/G, ...: a wrong reshape would group neighbours instead."""
    x = torch.randn(batch, 3, 4, 4)
    plane = minibatch_deviation(x, most)[:, 3, 0, 0]
    groups = batch // group
    for k in range(groups):
        wanted = (x[k::groups].var(dim=0, correction=0) + 1e-8).sqrt().mean().item()
        assert plane[k::groups].tolist() == pytest.approx([wanted] * group, rel=1e-4)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        *(((6, 4, 3, 3), {}), ((6, 4, 4, 4), {"stride": 2}), ((6, 4, 3, 3), {"stride": 2})),
        ((4, 1, 3, 3), {"groups": 4}),
    ],
)
def test_frozen_convolution_has_the_derivatives_of_pytorchs_own(shape, options):
    """First and second derivatives by the input, as in R1, and none for the weights."""
    weight, bias = (torch.randn(size, dtype=torch.float64) for size in (shape, shape[:1]))
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)

    def penalty(convolution):
        y = convolution(x, weight, bias, padding=1, **options).square()  # so R1 depends on x
        (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        loss = gradient.square().sum()
        return [y, gradient, loss, *torch.autograd.grad(loss, x)]

    for ours, theirs in zip(penalty(convolve), penalty(F.conv2d), strict=True):
        torch.testing.assert_close(ours, theirs)
        assert ours.abs().max() > 0.1
    weight.requires_grad_()  # a trainable weight still gets its gradient
    grads = [
        torch.autograd.grad(convolution(x, weight, bias, padding=1, **options).sum(), weight)[0]
        for convolution in (convolve, F.conv2d)
    ]
    assert torch.equal(*grads)


def test_frozen_convolution_under_autocast_is_sixteen_bit_both_ways():
    weight, x = torch.randn(4, 4, 3, 3), torch.randn(1, 4, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = convolve(x, weight, padding=1)
    assert y.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
    assert gradient.dtype == torch.float32
    wanted = torch.autograd.grad(F.conv2d(x, weight, padding=1).square().sum(), x)[0]
    assert (gradient - wanted).norm() < 0.05 * wanted.norm()
    assert torch.autograd.grad(gradient.square().sum(), x)[0].abs().max() > 0
