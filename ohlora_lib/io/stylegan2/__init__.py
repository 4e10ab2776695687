"""Weight files of StyleGAN 2: official pickles, and the layout of rosinality's repository."""
