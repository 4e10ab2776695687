"""The figures, each drawn from tables."""
