"""Property CNNs: training them, and scoring images with ensembles of them."""
