"""Slides of a config to a shard set: what is built, by whom, and what was done already."""
