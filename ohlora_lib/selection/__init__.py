"""Images that have the look, chosen by their scores."""
