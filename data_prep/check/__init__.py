"""Whether the files of a shard set are what its manifest says."""
