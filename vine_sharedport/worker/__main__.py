"""The relay, run from an installation by the launcher: ``python3 FOLDER WORKER OPTION...``."""

import os
import sys

# Instead of this folder, which holds no packages.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from vine_sharedport.worker.relay import main  # noqa: E402

sys.exit(main())
