"""Studies run in batch: stages, kernels, sweeps."""
