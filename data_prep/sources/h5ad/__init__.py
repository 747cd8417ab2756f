"""AnnData files of one or several slides."""
