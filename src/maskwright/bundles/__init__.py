"""A trained model as a folder, and the folders of runs."""
