"""The networks of the study: generator, discriminator, property CNN."""

from ohlora_lib.nets.discriminator import Discriminator
from ohlora_lib.nets.generator import Generator, Styles
from ohlora_lib.nets.property_cnn import PropertyCNN

__all__ = ["Discriminator", "Generator", "PropertyCNN", "Styles"]
