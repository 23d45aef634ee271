"""zcserve.admin.explanations: what the node tells of a request is what it answers, and it counts none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.client import Client, Response, get
from tests.support.site import Serve, Site
from zcserve import Server


@pytest.fixture
def told(ask: Callable[..., Response]) -> Callable[..., Any]:
    """`told(url, *lines, method="GET")`: the answer's object."""

    def explain(url: str, *lines: str, method: str = "GET") -> Any:
        words = [("url", url), ("method", method), *(("header", line) for line in lines)]
        answer = ask("/explain?" + urlencode(words))
        assert (answer.status, answer["Content-Type"]) == (200, b"application/json")
        return json.loads(answer.body)

    return explain


def test_what_is_told_is_what_is_answered(node: Server, ask: Callable[..., Response], told: Callable[..., Any]) -> None:
    with Client(node.port) as client:
        for url, lines, method in (
            ("/page", (), "GET"), ("/page", ("Range: bytes=0-1",), "GET"), ("/page", ("If-None-Match: *",), "HEAD"),
            ("/none", (), "GET"), ("/page", (), "POST"), ("/page", (), "OPTIONS"),
        ):  # fmt: skip
            found = told(url, *lines, method=method)
            answer = client.get(url, *lines, method=method)
            sent = [line for line in answer.head.decode().split("\r\n")[1:] if line and not line.startswith("Date")]
            assert found["status"] == answer.status
            assert found["fields"] == sent
    assert told("/page")["file"] == "page"
    assert json.loads(ask("/stats").body)["requests"]["total"] == 6


def test_a_file_that_was_not_read_has_no_etag_yet(
    site: Site, serve: Serve, socket_path: str, told: Callable[..., Any]
) -> None:
    site.write("large", bytes(3 << 20))
    server = serve(site.root, admin=f"unix:{socket_path}", memory=1 << 20, engine="python")
    found = told("/large")
    assert found["notes"] == ["it was not read yet: its ETag is not known"]
    assert [line for line in found["fields"] if line.startswith("ETag")] == []
    assert found["status"] == 200
    assert get(server.port, "/large")["ETag"]


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "one url is explained"),
        ("?url=/a&url=/b", "one url is explained"),
        ("?url=/a&method=GET&method=HEAD", "one url is explained"),
        ("?url=a", "is no URL"),
        ("?url=/a&header=x", "is no header field"),
        ("?url=/a&header=x:%0d%0ay:z", "is no header field"),
        ("?url=/a&headers=x:y", "headers is no parameter of /explain"),
        ("?" + "&".join(["header=x:y"] * 300), "more than 200 parameters"),
    ],
)
def test_wrong_use_is_refused_by_name(
    page_root: Path, serve: Serve, socket_path: str, ask: Callable[..., Response], query: str, why: str
) -> None:
    serve(page_root, engine="python", admin=f"unix:{socket_path}")
    answer = ask("/explain" + query)
    assert answer.status == 400
    assert why in json.loads(answer.body)["error"]


def test_of_a_listing_that_was_not_made_length_and_etag_are_not_known(
    site: Site, serve: Serve, socket_path: str, told: Callable[..., Any]
) -> None:
    site.write("d/a")
    server = serve(site.root, admin=f"unix:{socket_path}", listing=True)
    found = told("/d/")
    assert (found["status"], found["answer"], found["rule"]) == (200, "a listing", "--listing")
    assert [line for line in found["fields"] if line.startswith(("ETag", "Content-Length"))] == []
    assert found["notes"] == ["the page is made when it is asked for: its length and its ETag are not known"]
    answer = get(server.port, "/d/")
    found = told("/d/")
    assert (found["answer"], found["notes"]) == ("a listing of 1 name", [])
    assert f"ETag: {answer['ETag'].decode()}" in found["fields"]
