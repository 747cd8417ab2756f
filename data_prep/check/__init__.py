"""Checks of a shard set's files against its manifest and index."""
