"""Shared by all trainings: losses, checkpoints, ranks, stops."""
