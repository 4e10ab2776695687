"""Compares this package's speed with a plain implementation's: `python -m benchmarks`."""
