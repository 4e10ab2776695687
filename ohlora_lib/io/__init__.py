"""Reads and writes files: tables, images, tensors, weights."""
