"""The plan of an epoch: which spots stand in which batch."""
