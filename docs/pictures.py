"""Make docs/quickstart.svg: run the quickstart in a terminal, and draw what that shows.

    ./sandbox/run python docs/pictures.py

Needs rich.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
COMMAND = ("python", "examples/quickstart.py")
COLUMNS, ROWS = 100, 50

# What rich writes to redraw its progress bar: up one line, erase the line, hide and show the
# cursor. Colours stay in the text.
CONTROL = re.compile(r"(\x1b\[1A|\x1b\[2K|\x1b\[\?25[lh]|\r|\n)")


def main() -> int:
    status, output = run_in_terminal([sys.executable, *COMMAND[1:]])
    if status != 0:
        print(f"{' '.join(COMMAND)} ended with status {status}:\n{output}", file=sys.stderr)
        return 1
    picture = ROOT / "docs" / "quickstart.svg"
    picture.write_text(draw([f"$ ./sandbox/run {' '.join(COMMAND)}", *on_screen(output)]))
    print(f"{picture} has been made")
    return 0


def run_in_terminal(command: list[str]) -> tuple[int, str]:
    """Run a command with a terminal of its own; return its status, and what it wrote there."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))
    variables = dict(os.environ, TERM="xterm-256color", COLORTERM="truecolor")
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        variables.pop(name, None)
    process = subprocess.Popen(
        command, cwd=ROOT, env=variables, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    output = b""
    try:
        while data := os.read(ours, 65536):
            output += data
    except OSError:  # how a terminal says that everybody has closed it
        pass
    os.close(ours)
    return process.wait(), output.decode()


def on_screen(output: str) -> list[str]:
    """Return the lines that are left on the screen, with their colours."""
    lines, row = [""], 0
    for part in CONTROL.split(output):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not CONTROL.fullmatch(part):
            lines[row] += part
    return "\n".join(lines).rstrip().split("\n")


def draw(lines: list[str]) -> str:
    """Return a picture of a terminal with these lines."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False
    )
    console.print(Text(lines[0], style="bold"))
    for line in lines[1:]:
        console.print(Text.from_ansi(line), soft_wrap=False)
    # Readers' own fonts: a page that shows the picture fetches none.
    frame = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    frame = frame.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")
    # Some programs drop spaces at the beginning of a line, even those that do not break.
    frame = frame.replace("<svg ", '<svg xml:space="preserve" ', 1)
    svg = console.export_svg(title="quickstart", code_format=frame, unique_id="quickstart")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


if __name__ == "__main__":
    sys.exit(main())
