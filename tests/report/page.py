"""A page as a browser's parser sees it."""

import json
from html.parser import HTMLParser


class Page(HTMLParser):
    """What a browser would make of a page: elements, attributes, and the text of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self.comments: list[str] = []
        self.text = ""
        self._raw = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._raw = tag if tag in ("script", "style") else self._raw

    def handle_endtag(self, tag: str) -> None:
        self._raw = "" if tag == self._raw else self._raw

    def handle_data(self, data: str) -> None:
        if self._raw:
            self.inside.append((self._raw, data))
        else:
            self.text += data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def traces(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.inside[1][1])
        return found


def skeleton(page: Page) -> list[str]:
    """The tags in order, and every attribute that could act; hover titles and diff marks come and go with lengths."""
    acting = ("src", "href", "style", "action", "srcdoc")
    named = [(tag, name) for tag, attrs in page.elements for name in attrs]
    risky = [f"{tag} {name}" for tag, name in named if name.startswith("on") or name in acting]
    return [tag for tag, _ in page.elements if tag not in ("title", "ins", "del")] + risky + page.comments
