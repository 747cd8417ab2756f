"""Measurements: `speed`, what it costs, and `science`, what it is worth. `results` has what they printed."""
