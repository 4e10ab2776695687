"""Live figure, explorer and labelling in JupyterLab."""
