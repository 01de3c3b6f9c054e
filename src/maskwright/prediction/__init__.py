"""From pixels to masks: one Predictor over two runtimes, folders of images, and scores against labelled data."""
