"""Which genes the model reads, and how counts become expression."""
