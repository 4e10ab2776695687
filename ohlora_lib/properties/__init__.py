"""Property CNNs: training, and ensembles that score."""
