"""Converts a StyleGAN2's split mapping to a plain, wider one, which the official code can build.

Axes: W style width, V width of the new branch, F width of the plain mapping's hidden layers.
The two branches become blocks of the last two layers. The style vector holds both outputs, and the
layers that read it have their weights twice, so they compute the same sum.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ohlora_lib.io.stylegan2.layout import sizes


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of the same generator with a plain mapping, F = W + V, and 2 W styles.

    Images differ only by rounding. ValueError if the generator's mapping is not split.
    """
    if "mapping.fc_new0.weight" not in tensors:
        raise ValueError("--plain needs a StyleGAN2 generator with a split mapping (recipe v9)")
    own = sizes({name: tensor.shape for name, tensor in tensors.items()}, {})
    layers, width = own["mapping_layers"], own["w_dim"]
    found = {}
    for name, tensor in tensors.items():
        if name.startswith("mapping.embed."):
            found[name] = torch.cat([tensor, tensor])  # normalised later: each half stays the same
        elif name.endswith(".affine.weight"):
            found[name] = torch.cat([tensor, tensor], 1) * 2**0.5  # of the fan-in of 2 W
        elif not name.startswith("mapping.fc"):
            found[name] = tensor
    found["mapping.w_avg"] = F.pad(tensors["mapping.w_avg"], (0, width))
    inputs = own["z_dim"] + (2 * width if own["c_dim"] else 0)
    for k in range(layers):
        weight, bias = _layer(tensors, k, layers)
        outputs = 2 * width if k == layers - 1 else width + own["wide_dim"]
        rows, columns = outputs - len(bias), inputs - weight.shape[1]
        found[f"mapping.fc{k}.weight"] = F.pad(weight, (0, columns, 0, rows)) * inputs**0.5
        found[f"mapping.fc{k}.bias"] = F.pad(bias, (0, rows))
        inputs = outputs
    return found


def _layer(tensors: Mapping[str, Tensor], k: int, layers: int) -> tuple[Tensor, Tensor]:
    """Returns weight, with 1 / sqrt(fan-in) applied, and bias of a layer with its new branch."""
    names = [f"mapping.fc{k}"]
    if k >= layers - 2:
        names.append(f"mapping.fc_new{k - layers + 2}")
    weights = [tensors[f"{name}.weight"] for name in names]
    weights = [weight / weight.shape[1] ** 0.5 for weight in weights]
    join = torch.block_diag if k == layers - 1 else lambda *parts: torch.cat(parts)
    return join(*weights), torch.cat([tensors[f"{name}.bias"] for name in names])
