"""A run's model as a folder that loads without the training packages."""
