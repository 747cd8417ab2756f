"""Where a command is told to write a file: looked at before the work, not after it."""

from __future__ import annotations

import argparse
from pathlib import Path


def output_file(text: str) -> Path:
    """For `type=` of an argparse option; makes the file's folder.

    Raises:
        argparse.ArgumentTypeError: a folder, or in a folder that cannot be made.
    """
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; the name of a file is wanted")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"the folder {path.parent} cannot be made: {error.strerror}") from error
    return path
