"""Teach a StyleGAN one look, and measure whether it learned it."""

import os

__version__ = "0.1.0"
# Torch's OpenMP threads (libgomp) spin while they wait for each other, 300,000 turns by default.
# While other processes need the cores, that made training four to thirteen times slower. libgomp
# reads the number when torch is imported; https://gcc.gnu.org/onlinedocs/libgomp/ describes it.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
