"""`python -m retain`: the same as the command `retain`."""

import sys

from retain.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
