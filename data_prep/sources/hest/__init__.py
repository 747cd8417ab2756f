"""HEST-1k."""
