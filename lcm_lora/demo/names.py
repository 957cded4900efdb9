"""Names of files without their folders: a page that anybody reaches tells nothing of the disk."""

from __future__ import annotations

import re

_FOLDERS = re.compile(r"[^\s:;,'\"()`]*/(?=[^\s/])")


def without_folders(text: str) -> str:
    """Return text in which every path is its last part."""
    return _FOLDERS.sub("", text)
