"""Built-in faces, drawn from attributes."""
