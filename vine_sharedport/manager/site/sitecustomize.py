"""Python runs this at its start in the children of ``vine_sharedport run``.

It must not disturb them: where the package is not to be found, it does nothing.
"""

import os
import runpy
import sys

_here = os.path.dirname(os.path.abspath(__file__))
_root = os.path.dirname(os.path.dirname(os.path.dirname(_here)))

# Only for as long as it takes: the path is the child's. Last: so are its modules.
sys.path.append(_root)
try:
    from vine_sharedport.manager.run import install_from_environment

    install_from_environment()
except ImportError:
    pass
except Exception as error:
    sys.stderr.write(f"vine_sharedport run: no shared port in this process: {error}\n")
sys.path.remove(_root)

# This one stands before another sitecustomize, if there is one.
for _folder in sys.path:
    _path = os.path.join(_folder, "sitecustomize.py")
    if os.path.abspath(_folder) != _here and os.path.isfile(_path):
        runpy.run_path(_path)
        break
