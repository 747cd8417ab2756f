"""A slide in memory, and what is worked out about it before anything is written."""
