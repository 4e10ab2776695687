"""Shared by all training runs: losses, checkpoints, ranks, stops."""
