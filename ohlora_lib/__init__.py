"""Teach a StyleGAN one look, and prove it did."""

__version__ = "0.1.0"
