"""Images and their labels: built-in faces, image folders, CelebA, generator samples."""
