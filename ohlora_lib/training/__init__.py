"""What all trainings share: losses, checkpoints, ranks."""
