"""StyleGAN1: networks with the parameter names of GenForce's files."""

from ohlora_lib.nets.stylegan1.discriminator import Discriminator
from ohlora_lib.nets.stylegan1.generator import Generator

__all__ = ["Discriminator", "Generator"]
