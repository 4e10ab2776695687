"""The StyleGAN to start from: shipped, published or trained here."""
