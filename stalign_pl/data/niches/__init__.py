"""Which neighbours make a niche, and its counts."""
