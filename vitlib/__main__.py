"""`python -m vitlib`, the same as `vitlib`."""

import sys

from vitlib.cli.main import main

sys.exit(main())
