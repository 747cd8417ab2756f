"""Shards in, batches out: the epoch's plan, reading, and the device's half of it."""
