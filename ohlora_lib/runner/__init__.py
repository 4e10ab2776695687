"""Runs studies in batch: stages, kernels and sweeps."""
