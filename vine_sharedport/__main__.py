"""``python -m vine_sharedport``; by its path, what starts our own processes.

A user's directory may have files that are called like modules of Python, and the working
directory comes first on the path of ``-m``. So our own processes are started by this file's
path, and have the standard library first, then this package.
"""

import os
import sys

# Older systems' python3, for which no installation has asked. Nothing of ours is imported
# before, since most of it is no Python for them.
if sys.version_info < (3, 9):  # noqa: UP036
    sys.exit(
        "vine_sharedport: {} is Python {}.{}, wanted is 3.9 or later; run this by a newer one, "
        "such as 'python3.11 -m vine_sharedport'".format(sys.executable, *sys.version_info)
    )

if __package__:
    # The working directory, unless Python was told to leave it out.
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]
else:
    _here = os.path.dirname(os.path.abspath(__file__))
    _standard = os.path.dirname(os.__file__)
    _first = [p for p in sys.path if p in (_standard, os.path.join(_standard, "lib-dynload"))]
    _others = [p for p in sys.path if p not in (*_first, _here)]
    sys.path[:] = [*_first, os.path.dirname(_here), *_others]

from vine_sharedport.cli.main import main

sys.exit(main())
