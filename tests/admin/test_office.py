"""The admin listener as the server opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.site import Serve
from zcserve import Config, Server
from zcserve.errors import UsageError

TOKEN = "a-token-of-some-length"


def refusal(root: Path, **config: Any) -> str:
    with pytest.raises(UsageError) as caught, Server(Config(root=root, port=0, **config)):
        pass
    return str(caught.value)


def test_an_address_that_others_reach_needs_a_token(page_root: Path, tmp_path: Path) -> None:
    assert "can be reached from elsewhere" in refusal(page_root, admin=":0")
    assert "can be reached from elsewhere" in refusal(page_root, admin="0.0.0.0:0")


def test_a_token_that_is_no_use_is_told(page_root: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("abc\n")
    assert "16 ASCII characters or more" in refusal(page_root, admin=":0", admin_token_file=str(short))
    assert "cannot be read" in refusal(page_root, admin=":0", admin_token_file=str(tmp_path / "none"))


def test_with_a_token_only_who_has_it_is_answered(page_root: Path, tmp_path: Path, serve: Serve) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    server = serve(page_root, admin="127.0.0.1:0", admin_token_file=str(file))
    assert server.admin_port
    with Client(server.admin_port) as client:
        assert client.get("/livez").status == 200  # a probe has none
        answer = client.get("/reload", method="POST")
        assert (answer.status, answer["WWW-Authenticate"]) == (401, b'Bearer realm="zcserve"')
        answer = client.get("/reload", f"Authorization: Bearer {TOKEN}", method="POST")
        assert answer.status == 415


def test_an_address_that_is_none_is_refused(page_root: Path) -> None:
    assert "is not an address" in refusal(page_root, admin="nowhere")
