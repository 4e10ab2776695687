"""Fine-tunes a StyleGAN toward a look: recipes, the training loop, and its run folder."""
