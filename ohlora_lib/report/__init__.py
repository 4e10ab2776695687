"""Pages to read and to share: one for each executed notebook, one for the study."""
