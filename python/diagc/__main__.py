"""`python -m diagc`: the same as the command `diagc`."""

import sys

from diagc.driver import main

if __name__ == "__main__":
    sys.exit(main())
