"""The errors that a user can cause and mend. Each message names the thing, its value and what would be right."""


class STAlignError(Exception):
    """Base of every error that is about the user's data, files or configuration."""


class ShardError(STAlignError):
    """A shard set that is missing, damaged, or of another format version."""


class TrainingError(STAlignError):
    """A run that cannot go on, for what it met on its way."""


class ConfigError(STAlignError):
    """A configuration that contradicts itself or the data."""
