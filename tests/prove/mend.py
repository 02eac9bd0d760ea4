"""One line of the tables: what a mend is in the code, and which tests fail without it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Mend"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mend:
    """A mend that can be taken back.

    Attributes:
        name: What it is about.
        file: Where it is, below the checkout.
        text: What it wrote there, as often as it stands in the file.
        before: What stands there without it.
        tests: Those that fail then: arguments of pytest.
    """

    name: str
    file: str
    text: str
    before: str
    tests: tuple[str, ...]

    def without(self) -> str:
        """Return the file's content without the mend."""
        content = (ROOT / self.file).read_text()
        assert self.text in content, f"{self.name}: {self.file} has no longer {self.text!r}"
        return content.replace(self.text, self.before)
