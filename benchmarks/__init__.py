"""Compares the speed of this package with a plain implementation: `python -m benchmarks`."""
