"""The law of listings: whatever names a directory has, each link of its page leads to that file's bytes."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.following import Known
from tests.support.listings import follow
from tests.support.site import Serve
from zcserve import Server

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# What means something in a path, in a URL, in HTML or in JSON; what is no UTF-8; and the rest.
BYTES = st.sampled_from([*b"abc.&<>'\":%?#;=+ \\\n\x01\x7f[]{}@~", 0xC3, 0xA9, 0xE2, 0x80, 0xAE, 0xFF])
NAMES = st.lists(BYTES | st.integers(1, 255), min_size=1, max_size=12).map(bytes)


def is_name(name: bytes) -> bool:
    return b"/" not in name and not name.startswith(b".") and not name.endswith((b".br", b".gz", b".zst"))


numbers = Counter[str]()


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory, lasting_live: Serve) -> tuple[Server, Path]:
    root = tmp_path_factory.mktemp("laws")
    return lasting_live(root, listing=True), root


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.sets(NAMES.filter(is_name), max_size=12), directories=st.sets(NAMES.filter(is_name), max_size=3))
def test_each_link_leads_to_its_file(
    listing: tuple[Server, Path], known: Known, files: set[bytes], directories: set[bytes]
) -> None:
    server, root = listing
    numbers["directory"] += 1
    name = f"d{numbers['directory']}"
    directory = root / name
    directory.mkdir()
    for number, file in enumerate(files):
        (directory / os.fsdecode(file)).write_bytes(b"%d" % number)
    for below in directories - files:
        (directory / os.fsdecode(below)).mkdir()
    known(server)
    with Client(server.port) as client:
        follow(client, f"/{name}/", directory)
    shutil.rmtree(directory)
