"""The page at `/`, without a browser: what it is made of, and what it may not refer to."""

from __future__ import annotations

import hashlib
import re
import tomllib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.site import Serve
from zcserve import Server
from zcserve.admin.dashboard import FOLDER, LICENSED, SCRIPTS, STYLES, Dashboard
from zcserve.admin.orders import VERBS
from zcserve.site.reply import Reply

# A page that is opened over a slow line, too: 51 KB of it are uPlot's.
PAGE_BYTES_MAX = 112 * 1024
SOURCES = {file.relative_to(FOLDER).as_posix(): file for file in FOLDER.rglob("*") if file.is_file()}
OWN = [file for name, file in SOURCES.items() if not name.startswith("uplot/")]


@pytest.fixture
def reply() -> Reply:
    """The page, without a server: it asks neither the node nor the request."""
    nothing: Any = None
    return Dashboard().get(nothing, nothing)


def inline(page: str, name: str) -> list[str]:
    """What stands in all elements of a name that have no attributes."""
    return re.findall(rf"<{name}>(.*?)</{name}>", page, re.DOTALL)


def test_the_page_is_one_document_that_is_kept_nowhere(node: Server, ask: Callable[..., Response]) -> None:
    answer = ask("/")
    assert answer.status == 200
    assert answer["Content-Type"] == b"text/html; charset=utf-8"
    assert (answer["Cache-Control"], answer["X-Content-Type-Options"]) == (b"no-store", b"nosniff")
    assert answer["Referrer-Policy"] == b"no-referrer"
    assert len(answer.body) < PAGE_BYTES_MAX
    head = ask("/", method="HEAD")
    assert (head.status, head.body, head["Content-Length"]) == (200, b"", str(len(answer.body)).encode())
    assert ask("/", method="DELETE").status == 405


@pytest.fixture
def page(reply: Reply) -> str:
    assert isinstance(reply.content, bytes)
    return reply.content.decode()


def test_a_browser_is_to_run_these_scripts_and_styles_and_nothing_else(reply: Reply, page: str) -> None:
    policy = dict(reply.fields)[b"Content-Security-Policy"].decode()
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for kind, element, sources in (("script-src", "script", SCRIPTS), ("style-src", "style", STYLES)):
        texts = inline(page, element)
        assert len(texts) == len(sources) == page.count(f"<{element}")
        hashes = [b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert rules[kind].split() == [f"'sha256-{digest}'" for digest in hashes]
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == "'none'"
    assert rules["connect-src"] == "'self'"


def test_nothing_in_it_leads_elsewhere(page: str) -> None:
    assert not re.findall(r"https?://|wss?://", page)
    assert not re.findall(r"""(?:["'(=]|url\()\s*//\w""", page)  # without a scheme
    assert "@import" not in page


@pytest.mark.parametrize("file", OWN, ids=lambda file: file.name)
def test_a_source_has_nothing_that_the_policy_refuses(file: Path) -> None:
    text = file.read_text()
    assert not re.findall(r"""\s(?:style|on\w+)=["']|innerHTML|insertAdjacentHTML|document\.write|\beval\(""", text)
    assert len(text.splitlines()) <= 600


def test_every_source_is_in_the_page_and_in_the_package() -> None:
    assert SOURCES.keys() == {"page.html", *STYLES, *SCRIPTS, *LICENSED.values()}
    project = tomllib.loads((FOLDER.parents[2] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["zcserve.admin"]
    packed = {file for pattern in patterns for file in FOLDER.parent.glob(pattern) if file.is_file()}
    assert packed >= set(SOURCES.values())


def test_the_licence_of_what_others_wrote_goes_with_it(page: str) -> None:
    assert SOURCES["uplot/LICENSE"].read_text() in page


def test_what_it_tells_a_node_are_verbs_with_words_that_there_are() -> None:
    actions = SOURCES["actions.js"].read_text()
    told = re.findall(r'^ {4}verb: "(\w+)"', actions, re.MULTILINE)
    verbs = {verb.wording.name: verb.wording for verb in VERBS}
    assert {"purge", "reload", "drain", "undrain"} == set(told) <= verbs.keys()
    kinds = set(re.findall(r'option\("(\w+)"', actions))
    assert kinds == {"path", "prefix", "glob"}
    assert kinds | {"hard"} <= verbs["purge"].words.keys()


def test_the_page_can_be_had_without_the_token_and_the_numbers_cannot(
    page_root: Path, tmp_path: Path, serve: Serve
) -> None:
    file = tmp_path / "token"
    file.write_text("a-token-of-some-length\n")
    server = serve(page_root, admin="127.0.0.1:0", admin_token_file=str(file))
    with Client(server.admin_port) as client:
        assert client.get("/").status == 200
        assert client.get("/events").status == 401
