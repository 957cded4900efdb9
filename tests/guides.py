"""The commands of a guide in docs/, as a reader would type them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = ("team", "your-data", "your-base", "promote", "when-it-breaks", "scale-out", "serving")

_ENDS = ("&&", ";", "|", "||")
_SETTING = re.compile(r"[A-Z_]+=")


def blocks(guide: str) -> list[str]:
    """Return the fenced blocks of bash of a guide."""
    text = (DOCS / f"{guide}.md").read_text()
    return re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S)


def typed(block: str) -> Iterator[str]:
    """Yield what is typed at once: a line, or several where quotes or a backslash say so."""
    whole = ""
    for line in block.splitlines():
        whole += f"{line}\n"
        if line.endswith("\\"):
            continue
        try:
            shlex.split(whole, comments=True)
        except ValueError:  # a quotation goes on
            continue
        yield whole.strip()
        whole = ""
    assert not whole, f"never ends: {whole}"


def commands(guide: str) -> Iterator[list[str]]:
    """Yield every simple command of a guide, in words, without variables set for it alone."""
    for block in blocks(guide):
        for line in typed(block):
            lexer = shlex.shlex(line.replace("\\\n", " "), posix=True, punctuation_chars=";&|")
            lexer.whitespace_split = True
            lexer.commenters = "#"
            yield from _simple(list(lexer))


def _simple(words: list[str]) -> Iterator[list[str]]:
    found: list[str] = []
    for word in [*words, ";"]:
        if word not in _ENDS:
            found += [word] if found or not _SETTING.match(word) else []
        elif found:
            yield found
            found = []
