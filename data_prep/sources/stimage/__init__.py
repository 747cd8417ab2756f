"""STimage-1K4M."""
