"""`python -m stalign_pl fit|validate|test|predict --config FILE`."""

from __future__ import annotations

import argparse
import sys

from stalign_pl.errors import STAlignError


def main() -> int:
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from stalign_pl.cli import STAlignCLI

    try:
        STAlignCLI()
    except (STAlignError, MisconfigurationException) as error:
        print(f"stalign_pl: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except argparse.ArgumentError as error:
        print(f"stalign_pl: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
