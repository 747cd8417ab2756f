"""Where a command is told to write a file: looked at before the work, not after it."""

from __future__ import annotations

import argparse
from pathlib import Path


def output_file(text: str) -> Path:
    """For `type=` of an argparse option.

    Raises:
        argparse.ArgumentTypeError: a folder, or in a folder that there is not.
    """
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; the name of a file is wanted")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent} to write {path.name} in")
    return path
