"""``python -m vine_sharedport``."""

import sys

from vine_sharedport.cli import main

sys.exit(main())
