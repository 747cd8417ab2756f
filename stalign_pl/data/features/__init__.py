"""Frozen encoders' outputs, kept on disk."""
