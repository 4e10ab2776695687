"""Fine-tunes a StyleGAN toward a look: recipes, losses, the loop, its evaluation."""
