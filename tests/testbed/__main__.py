"""``python3 -m tests.testbed``: see ``--help``."""

import sys

from tests.testbed.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
