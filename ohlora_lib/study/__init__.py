"""Parameters, run folders and the machine."""
