"""Images and their labels: built-in faces, folders, CelebA's layout."""
