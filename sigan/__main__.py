"""`python -m sigan` is the command `sigan`."""

from __future__ import annotations

import sys

from sigan.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
