"""Slides divided into train, val and test by patient or study."""
