"""The networks of the study: generator, discriminator, property CNNs."""

from ohlora_lib.nets.compact_cnn import CompactCNN
from ohlora_lib.nets.property_cnn import PropertyCNN
from ohlora_lib.nets.stylegan1.discriminator import Discriminator
from ohlora_lib.nets.stylegan1.generator import Generator, Styles

__all__ = ["CompactCNN", "Discriminator", "Generator", "PropertyCNN", "Styles"]
