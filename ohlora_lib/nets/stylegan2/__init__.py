"""StyleGAN2: networks with the tensor names of StyleGAN2-ADA's official PyTorch files."""

from ohlora_lib.nets.stylegan2.discriminator import Discriminator
from ohlora_lib.nets.stylegan2.generator import Generator

__all__ = ["Discriminator", "Generator"]
