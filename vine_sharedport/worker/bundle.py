"""The package as one file, for execute points that do not have it."""

from __future__ import annotations

import os
import zipfile

import vine_sharedport

__all__ = ["write_package"]

_MAIN = "import sys\nfrom vine_sharedport.cli import main\nsys.exit(main())\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same bytes for the same sources


def write_package(path: str) -> None:
    """Write this package as a zip file that Python runs: ``python3 PATH worker ...``.

    Args:
        path: File to write.
    """
    root = os.path.dirname(os.path.abspath(vine_sharedport.__file__))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        _write(archive, "__main__.py", _MAIN.encode())
        for folder, folders, files in sorted(os.walk(root)):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in sorted(files):
                if name.endswith(".py"):
                    full = os.path.join(folder, name)
                    inside = os.path.join("vine_sharedport", os.path.relpath(full, root))
                    with open(full, "rb") as source:
                        _write(archive, inside, source.read())


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # A ZipInfo of our own, for the time; it would bring "not compressed" along.
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
