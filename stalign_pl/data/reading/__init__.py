"""Bytes of shards to batches."""
