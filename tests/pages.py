"""What tests ask of every page: that it stands alone, and is told to those who hear it."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Elements(HTMLParser):
    """Collect every tag with its attributes, and the text of each kind of tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._open.append(tag)
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data


def said(page: str, tag: str) -> list[str]:
    """Return the text of every tag of a kind."""
    return [" ".join(text.split()) for text in Elements(page).texts[tag]]


def check_alone(page: str) -> None:
    """Check that a page loads nothing."""
    for _, attributes in Elements(page).found:
        for name in ("src", "srcset", "href", "xlink:href", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), value
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert not re.search(r"<(iframe|script src|link rel=.stylesheet)", page)


def check_ids(page: str) -> None:
    """Check that ids are unique, and that references meet them."""
    found = Elements(page).found
    ids = [a["id"] for _, a in found if "id" in a]
    assert len(ids) == len(set(ids))
    used = re.findall(r"url\(#([^)]+)\)", page) + re.findall(r'href="#([^"]+)"', page)
    used += [a["aria-labelledby"] for _, a in found if a.get("aria-labelledby")]
    assert used
    assert set(used) <= set(ids)


def check_names(page: str) -> None:
    """Check that all that is seen has a name."""
    found = Elements(page).found
    assert {"main", "nav", "header"} <= {tag for tag, _ in found}
    for tag, attributes in found:
        if tag == "img":
            assert attributes["alt"]
        if attributes.get("role") in {"region", "img"}:
            assert attributes["aria-label"]
        if "tabindex" in attributes:
            assert attributes["tabindex"] == "0"
    for controls in ("select", "input"):
        assert page.count(f"<{controls}") == len(
            re.findall(rf"<label[^>]*>[^<]*<{controls}[ >]", page)
        )
