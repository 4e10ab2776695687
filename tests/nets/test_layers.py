"""Building blocks against their definitions, written out the slow way."""

import math

import pytest
import torch
import torch.nn.functional as F

from ohlora_lib.nets.fast import convolve
from ohlora_lib.nets.layers import (
    Blur,
    EqualDense,
    Noise,
    Style,
    check_shape,
    minibatch_deviation,
    smooth_kernel,
)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_equal_dense_keeps_variance_and_scales_bias():
    layer = EqualDense(256, 2000, gain=1.0, lr_multiplier=0.01)
    with torch.no_grad():
        layer.bias.fill_(300.0)
    y = layer(torch.randn(8, 256)).detach()
    assert layer.weight.std().item() == pytest.approx(100, rel=0.02)  # stored as N(0, 1) / 0.01
    assert y.mean().item() == pytest.approx(3.0, abs=0.1)  # a bias not scaled would give 300
    assert y.std().item() == pytest.approx(1.0, rel=0.05)


def test_blur_is_binomial_and_keeps_the_sum_inside():
    x = torch.zeros(1, 2, 7, 7)
    x[0, 1, 3, 3] = 1
    y = Blur(2)(x)
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    torch.testing.assert_close(y[0, 1, 2:5, 2:5], torch.outer(line, line))
    assert y[0, 0].abs().max() == 0  # channels do not mix


def test_smooth_kernel_is_a_convolution_after_upsampling_or_before_pooling():
    x, weight = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3)
    slow = F.conv2d(F.interpolate(x, scale_factor=2.0), weight, padding=1)
    kernel = smooth_kernel(weight.flip(2, 3)).transpose(0, 1)
    fast = F.conv_transpose2d(x, kernel, stride=2, padding=1)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)
    slow = F.avg_pool2d(F.conv2d(x, weight, padding=1), 2)
    fast = F.conv2d(x, smooth_kernel(weight) / 4, stride=2, padding=1)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)


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


# From 32 px on it is worked out by group norm.
WAYS = [
    (side, layout) for side in (8, 32) for layout in (torch.contiguous_format, torch.channels_last)
]


@pytest.mark.parametrize(("side", "layout"), WAYS)
def test_style_has_the_values_and_gradients_of_instance_norm(side, layout):
    layer, w = Style(5, 3).double(), torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 3, side, side, dtype=torch.float64) * 3 + 2
    x = x.contiguous(memory_format=layout).requires_grad_()
    upstream = torch.randn_like(x)
    scale, shift = F.linear(w, layer.weight / math.sqrt(5), layer.bias).chunk(2, dim=1)
    wanted = F.instance_norm(x, eps=1e-8) * (scale + 1)[..., None, None] + shift[..., None, None]
    leaves = [x, w, *layer.parameters()]
    found = layer(x, w)
    torch.testing.assert_close(found, wanted)
    gradients = (torch.autograd.grad(y, leaves, upstream) for y in (found, wanted))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("side", "layout"), WAYS)
def test_style_in_16_bits_has_the_values_and_gradients_of_32(side, layout):
    layer, w = Style(5, 4), torch.randn(3, 5)
    x = torch.randn(3, 4, side, side) * 2 + 1
    x = x.to(torch.bfloat16).contiguous(memory_format=layout)
    upstream = torch.randn(3, 4, side, side).to(torch.bfloat16)

    def run(dtype):
        leaves = [x.detach().to(dtype).requires_grad_(), w.clone().requires_grad_()]
        leaves += list(layer.parameters())
        y = layer(*leaves[:2])
        assert y.dtype == dtype
        return [y, *torch.autograd.grad(y, leaves, upstream.to(dtype))]

    for half, full in zip(run(torch.bfloat16), run(torch.float32), strict=True):
        assert (half.float() - full).norm() < 0.01 * full.norm()


@pytest.mark.parametrize("side", [8, 32, 64, 256])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("spread", [0.0, 0.002, 0.02, "a few pixels"])
def test_style_keeps_a_channel_far_from_zero(dtype, side, spread):
    """A dead channel is constant; its mean in 16 bits, times 1 / 1e-4, would drown the shift."""
    layer, w = Style(5, 4), torch.randn(2, 5)
    x = torch.full((2, 4, side, side), 1.7)
    if spread == "a few pixels":
        x[:, :, :2, :3] *= 1.02
    else:
        x += torch.randn(x.shape) * spread
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    found, exact = layer(x, w), layer.double()(x.double(), w.double())
    assert exact.abs().max() > 0.5
    assert (found.double() - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize(("batch", "group"), [(16, 16), (32, 16), (18, 9), (2, 2), (1, 1)])
def test_minibatch_deviation_groups(batch, group):
    """Group k holds images k, k + B/G, ...: a wrong reshape would mix neighbours instead."""
    x = torch.randn(batch, 3, 4, 4)
    plane = minibatch_deviation(x)[:, 3, 0, 0]
    groups = batch // group
    for k in range(groups):
        wanted = (x[k::groups].var(dim=0, correction=0) + 1e-8).sqrt().mean().item()
        assert plane[k::groups].tolist() == pytest.approx([wanted] * group, rel=1e-4)


def test_check_shape_names_what_is_wrong():
    check_shape(torch.zeros(3, 4), (None, 4), name="z")
    with pytest.raises(ValueError, match=r"z has shape \(3, 5\); it must be \(any, 4\)"):
        check_shape(torch.zeros(3, 5), (None, 4), name="z")
    with pytest.raises(ValueError, match="must be"):
        check_shape(torch.zeros(3, 4, 1), (None, 4), name="z")


@pytest.mark.parametrize(
    ("channels", "kernel", "options"),
    [
        *(((6, 4), 3, {"padding": 1}), ((6, 4), 4, {"padding": 1, "stride": 2})),
        *(((6, 4), 3, {"padding": 1, "stride": 2}), ((4, 1), 3, {"padding": 1, "groups": 4})),
    ],
)
def test_frozen_convolution_has_the_derivatives_of_pytorchs_own(channels, kernel, options):
    """First and second derivative by the input, as R1 takes them, with nothing for the weights."""
    weight = torch.randn(channels[0], channels[1], kernel, kernel, dtype=torch.float64)
    bias = torch.randn(channels[0], dtype=torch.float64)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)

    def penalty(convolution):
        y = convolution(x, weight, bias, **options).square()  # curved, so that R1 depends on x
        (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        loss = gradient.square().sum()
        return [y, gradient, loss, *torch.autograd.grad(loss, x)]

    ours, theirs = penalty(convolve), penalty(F.conv2d)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
        assert a.abs().max() > 0.1


def test_convolution_with_trainable_weights_keeps_their_gradients():
    weight = torch.randn(3, 2, 3, 3, requires_grad=True)
    x = torch.randn(1, 2, 5, 5, requires_grad=True)
    grads = torch.autograd.grad(convolve(x, weight, padding=1).square().sum(), [x, weight])
    wanted = torch.autograd.grad(F.conv2d(x, weight, padding=1).square().sum(), [x, weight])
    for a, b in zip(grads, wanted, strict=True):
        assert torch.equal(a, b)


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
