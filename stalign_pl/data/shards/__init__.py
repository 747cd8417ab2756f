"""A shard set opened for reading."""
