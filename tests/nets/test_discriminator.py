"""The discriminator at small sizes; test_parity compares it with the public one."""

import torch
import torch.nn.functional as F

from ohlora_lib.nets import Discriminator, Generator


def small(image_px=16, **options):
    torch.manual_seed(0)
    return Discriminator(image_px, **{"fmaps_base": 128, "fmaps_max": 32, **options})


@torch.no_grad()
def test_level_of_detail_fades_from_one_input_to_the_next():
    net, images = small(32), torch.randn(4, 3, 32, 32)
    full, small_size = net(images), net(F.avg_pool2d(images, 2), lod=1.0)
    gap = (full - small_size).abs().max().item()
    assert gap > 1e-3
    assert (net(images, lod=1e-6) - full).abs().max().item() < 0.01 * gap
    assert (net(images, lod=1 - 1e-6) - small_size).abs().max().item() < 0.01 * gap
    generator = Generator(32, z_dim=16, w_dim=16, fmaps_base=128).eval()
    wp = generator.styles(torch.randn(4, 16)).w.unsqueeze(1).expand(-1, 8, -1)
    for lod in (0.4, 1.0, 1.75, 2.0):
        assert net(generator.synthesis(wp, "fixed", lod), lod=lod).shape == (4, 1)
