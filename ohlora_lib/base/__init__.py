"""The StyleGAN that fine-tuning starts from: shipped, published or trained here."""
