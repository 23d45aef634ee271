"""A listing as browsers and programs read it, and the way from it to the files."""

from __future__ import annotations

import json
import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from tests.support.client import Client, Response


class Page(HTMLParser):
    """What a page says: text and target of each link, and each start tag with its attributes."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.links: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._href: str | None = None
        self.feed(answer.body.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "a":
            self._href = dict(attrs)["href"]
            assert self._href is not None
            self.links[self._href] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._href = None

    def handle_data(self, data: str) -> None:
        if self._href is not None:
            self.links[self._href] += data

    def names(self) -> dict[str, str]:
        """The links to names, and their text."""
        return {href: text for href, text in self.links.items() if href not in ("../", "?format=json")}


def follow(client: Client, target: str, directory: Path) -> None:
    """Each name that is served leads from the page to its bytes, by the ways of browsers and of JSON's readers."""
    page, told = Page(client.get(target)), json.loads(client.get(target + "?format=json").body)
    there = {os.fsencode(name) for name in os.listdir(directory)}
    assert [one["href"] for one in told["entries"]] == list(page.names())
    assert [one["name"] for one in told["entries"]] == [
        name.decode(errors="replace")
        for name in sorted(there, key=lambda name: (not (directory / os.fsdecode(name)).is_dir(), name))
    ]
    contents = []
    for href in page.names():
        url = urlsplit(urljoin(f"http://host{target}", href))
        assert (url.netloc, url.query, url.fragment) == ("host", "", "")
        answer = client.get(url.path)
        assert answer.status == 200
        if not href.endswith("/"):
            contents.append(answer.body)
    files = [file for file in directory.iterdir() if file.is_file()]
    assert sorted(contents) == sorted(file.read_bytes() for file in files)
