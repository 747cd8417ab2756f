"""`python -m data_prep`."""

import sys

from data_prep.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
