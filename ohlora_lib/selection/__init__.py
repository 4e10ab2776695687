"""Selects the images that have the look, by their scores."""
