"""The networks of the study: generator, discriminator, property CNNs."""

from ohlora_lib.nets.compact_cnn import CompactCNN
from ohlora_lib.nets.discriminator import Discriminator
from ohlora_lib.nets.generator import Generator, Styles
from ohlora_lib.nets.property_cnn import PropertyCNN

__all__ = ["CompactCNN", "Discriminator", "Generator", "PropertyCNN", "Styles"]
