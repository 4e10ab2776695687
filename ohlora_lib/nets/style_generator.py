"""What both generations of StyleGAN share: sizes, truncation, held kernels, the forward pass.

Axes: B batch, Z latent width, P properties, W style width, L synthesis layers, H image height.
Source: Karras et al., "A Style-Based Generator Architecture for GANs", 2019, https://arxiv.org/abs/1812.04948.
"""

import contextlib
import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

NEW_BRANCH_STD = 0.15  # with the usual 1 / lr_multiplier, the first images are not faces
W_AVG_STEP = 0.005  # weight of a training batch's mean w in the running mean


def count_blocks(image_px: int) -> int:
    """Counts resolutions from 4 px to image_px; ValueError unless it is one of 8, 16 ... 1024."""
    if image_px not in {2**k for k in range(3, 11)}:
        raise ValueError(f"image_px is {image_px}; it must be a power of two from 8 to 1024")
    return int(math.log2(image_px)) - 1


def feature_maps(image_px: int, fmaps_base: int, fmaps_max: int) -> int:
    """Returns the number of channels at a resolution."""
    return max(1, min(fmaps_base // image_px, fmaps_max))


def arguments(net: nn.Module) -> dict[str, Any]:
    """Returns a network's constructor arguments, which are attributes of the same names."""
    return {name: getattr(net, name) for name in inspect.signature(type(net)).parameters}


@dataclass(frozen=True)
class Styles:
    """Style vectors and, for a split mapping, the four vectors inside its branches (else None).

    `w1` and `w1_` are the outputs of the narrow branch's two layers, `w2` and `w2_` of the wide's.
    """

    w: Tensor  # (B, W)
    w1: Tensor | None = None  # (B, W)
    w2: Tensor | None = None  # (B, wide)
    w1_: Tensor | None = None  # (B, W)
    w2_: Tensor | None = None  # (B, W)


class Truncation(nn.Module):
    """Holds the running mean of w and pulls the styles of the first layers toward it."""

    def __init__(self, w_avg: Tensor) -> None:
        super().__init__()
        self.register_buffer("w_avg", w_avg)  # (W,), not copied

    def forward(self, w: Tensor, num_layers: int, psi: float, psi_layers: int) -> Tensor:
        """Repeats w (B, W) for each layer to (B, L, W); the first `psi_layers` are truncated."""
        wp = w.unsqueeze(1).expand(-1, num_layers, -1)  # (B, L, W)
        if psi == 1.0 or psi_layers == 0:
            return wp
        pull = torch.ones(num_layers, 1, device=w.device)
        pull[:psi_layers] = psi
        return self.w_avg + (wp - self.w_avg) * pull


class StyleSynthesis(nn.Module):
    """A synthesis network whose layers with a method `hold` can keep their kernels in `held`."""

    @contextlib.contextmanager
    @torch.no_grad()
    def hold_kernels(self, dtype: torch.dtype | None = None) -> Iterator[None]:
        """Computes the kernels once for all calls inside the block, instead of at every call.

        Kernels are channels_last, which makes all feature maps channels_last. Inside the block,
        weights must not change and get no gradient, and the network must not be copied.
        """
        layers = [layer for layer in self.modules() if hasattr(layer, "hold")]
        try:
            for layer in layers:
                layer.hold(dtype)
            yield
        finally:
            for layer in layers:
                layer.held = None


class StyleGenerator(nn.Module):
    """A generator with the parts `mapping`, `truncation` and `synthesis`.

    Each generation's class has `groups`, the prefixes of parameter names by layer group, such as
    `layers@16px`.
    """

    @property
    def sizes(self) -> dict[str, Any]:
        """Constructor arguments of a network like this, with a plain mapping."""
        return {k: v for k, v in arguments(self).items() if k != "wide_dim"}

    @torch.no_grad()
    def split(self, wide_dim: int, random: torch.Generator) -> Self:
        """Copies the network, with a second, wide branch beside the mapping's last two layers.

        The branch starts as published: `random`, on the CPU, draws its stored weights and biases
        from N(0, 0.15^2). ValueError if the mapping is split already.
        """
        if self.wide_dim:
            raise ValueError(
                "the base already has a split mapping. Use recipe v8, or a base with a plain one "
                "(`ohlora weights convert --plain` writes a StyleGAN2 as such)"
            )
        net = type(self)(**self.sizes, wide_dim=wide_dim)
        own = self.state_dict()
        net.load_state_dict(own, strict=False)
        for name, parameter in net.named_parameters():
            if name not in own:
                parameter.copy_(torch.randn(parameter.shape, generator=random) * NEW_BRANCH_STD)
        return net

    def draw_properties(self, count: int, random: torch.Generator) -> Tensor:
        """Draws standard normal property scores, (count, P)."""
        size = (count, self.num_properties)
        return torch.randn(size, generator=random, device=random.device)

    def labels(self, count: int, random: torch.Generator) -> Tensor | None:
        """Draws labels that training samples need, (count, P); None means zero scores."""
        return None

    @torch.no_grad()
    def move_toward(self, trained: Self, keep: float) -> None:
        """Moves each weight to keep * own + (1 - keep) * trained, and copies the buffers."""
        for mean, value in zip(self.parameters(), trained.parameters(), strict=True):
            mean.lerp_(value, 1 - keep)
        for mean, value in zip(self.buffers(), trained.buffers(), strict=True):
            mean.copy_(value)

    def styles(self, z: Tensor, properties: Tensor | None = None) -> Styles:
        """Maps latents (B, Z) and scores (B, P) to styles; in training mode also updates w_avg."""
        styles = self.mapping(z, properties)
        if self.training:
            mean = styles.w.detach().to(self.truncation.w_avg.dtype).mean(dim=0)  # (W,)
            self.truncation.w_avg.lerp_(mean, W_AVG_STEP)
        return styles

    def forward(
        self,
        z: Tensor,
        properties: Tensor | None = None,
        *,
        psi: float = 1.0,
        psi_layers: int = 0,
        noise: str = "fixed",
    ) -> Tensor:
        """Draws images (B, 3, H, H), about [-1, 1].

        Args:
            z: Latents, shape (B, Z), standard normal.
            properties: Standardised scores, shape (B, P); None means all zero.
            psi: Truncation: 1 keeps the styles, 0 gives the mean face.
            psi_layers: Number of layers, from the first, that are truncated.
            noise: `fixed` uses the stored planes, `random` draws new ones.
        """
        if noise not in {"fixed", "random"}:
            raise ValueError(f"noise is {noise!r}; it must be 'fixed' or 'random'")
        w = self.styles(z, properties).w
        wp = self.truncation(w, 2 * self.synthesis.num_blocks, psi, psi_layers)
        return self.synthesis(wp, noise)
