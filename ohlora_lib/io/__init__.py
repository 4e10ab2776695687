"""Files read and written: tables, images, tensors, weights."""
