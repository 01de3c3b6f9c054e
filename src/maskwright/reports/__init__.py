"""One HTML page about one training run: facts, figures, pictures, and how to repeat it. Opens offline, loads nothing."""
