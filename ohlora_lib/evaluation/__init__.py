"""Scores, diversity and distances of a generator's samples."""
