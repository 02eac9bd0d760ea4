"""``python -m vine_sharedport``."""

import sys

# Older systems' python3, for which no installation has asked. Nothing of ours is imported
# before, since most of it is no Python for them.
if sys.version_info < (3, 9):  # noqa: UP036
    sys.exit(
        "vine_sharedport: {} is Python {}.{}, wanted is 3.9 or later; run this by a newer one, "
        "such as 'python3.11 -m vine_sharedport'".format(sys.executable, *sys.version_info)
    )

from vine_sharedport.cli.main import main

sys.exit(main())
