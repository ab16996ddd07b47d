"""``python -m analysis`` is ``mfzoo``."""

import sys

from analysis.cli import main

sys.exit(main())
