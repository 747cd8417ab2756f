"""Slides in, shards out. Imports no torch."""
