"""`python -m stalign_pl`."""

import sys

from stalign_pl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
