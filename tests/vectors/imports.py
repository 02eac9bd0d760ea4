"""Build the vectors of the ELF reader for a processor that the tests may not run on.

    python tests/vectors/imports.py > tests/vectors/imports-aarch64.json

Needs ``aarch64-linux-gnu-gcc`` and ``aarch64-linux-gnu-readelf`` (Debian:
gcc-aarch64-linux-gnu). Each vector is a small library as built, with what readelf says
about its imports. Nothing of ``vine_sharedport`` is imported: the vectors are there to
judge it.
"""

from __future__ import annotations

import base64
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile
import zlib

PREFIX = "aarch64-linux-gnu-"
SOURCE = """
int accept(int, void *, void *);
int getsockname(int, void *, void *);
int close(int);

int serve(int fd)
{
    int client = accept(fd, 0, 0);
    getsockname(fd, 0, 0);
    return close(client);
}
"""
COMMON = ["-shared", "-nostdlib", "-fPIC", "-O2", "-s", "-Wl,--build-id=none"]
CASES = {
    "lazy": ["-Wl,-z,lazy"],
    "full-relro": ["-Wl,-z,now,-z,relro"],
    "no-plt": ["-fno-plt", "-Wl,-z,now,-z,relro"],
}


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def imports(library: str) -> list[list[str]]:
    """Return [symbol, relocation type, offset in hexadecimal], as readelf lists them."""
    found = []
    for line in output(PREFIX + "readelf", "-rW", library).splitlines():
        fields = line.split()
        if len(fields) == 7 and fields[2].startswith("R_AARCH64_"):
            found.append([fields[4], fields[2], fields[0]])
    return found


def main() -> None:
    vectors = []
    with tempfile.TemporaryDirectory() as name:
        source, library = pathlib.Path(name, "v.c"), str(pathlib.Path(name, "v.so"))
        source.write_text(SOURCE)
        for case, flags in CASES.items():
            output(PREFIX + "gcc", *COMMON, *flags, str(source), "-o", library)
            image = zlib.compress(pathlib.Path(library).read_bytes(), 9)
            vectors.append(
                {
                    "case": case,
                    "flags": COMMON + flags,
                    "imports": imports(library),
                    "image_zlib_base64": base64.b64encode(image).decode(),
                }
            )
    json.dump(
        {
            "kind": "imports",
            "machine": "aarch64",
            "compiler": output(PREFIX + "gcc", "--version").splitlines()[0],
            "linker": output(PREFIX + "ld", "--version").splitlines()[0],
            "built": datetime.date.today().isoformat()[:7],
            "vectors": vectors,
        },
        sys.stdout,
        indent=1,
    )
    print()


if __name__ == "__main__":
    main()
