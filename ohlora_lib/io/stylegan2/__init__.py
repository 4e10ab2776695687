"""Weight files of StyleGAN2: official pickles, and the layout of rosinality's repository."""
