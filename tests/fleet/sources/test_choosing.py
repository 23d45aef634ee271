"""Which source an address means."""

from __future__ import annotations

from pathlib import Path

import pytest

from zcserve.errors import UsageError
from zcserve.fleet.sources.choosing import check_for_nodes, source_of


def test_a_path_and_a_file_url_are_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    assert source_of(str(tmp_path / "a b"), parallel=1).name == str(tmp_path / "a b")
    assert source_of(f"file://{tmp_path}/a%20b", parallel=1).name == str(tmp_path / "a b")


@pytest.mark.parametrize(
    ("address", "module", "name"),
    [
        ("http://h:8080/www", "urllib3", "http://h:8080/www/"),
        ("HTTPS://me:secret@h/", "urllib3", "https://h/"),
        ("s3://bucket/a/b/?region=x&endpoint=http://h:1", "obstore", "s3://bucket/a/b"),
        ("nats://me:secret@h:4222/releases", "nats", "nats://h:4222/releases"),
        ("tls://h/releases", "nats", "tls://h/releases"),
    ],
)
def test_an_address_means_a_source_that_tells_no_password(address: str, module: str, name: str) -> None:
    pytest.importorskip(module)
    source = source_of(address, parallel=1)
    assert source.name == name
    source.close()


@pytest.mark.parametrize(
    ("address", "module", "said"),
    [
        ("file://host/a", "os", "names a host"),
        ("ftp://h/a", "os", "scheme that is not known"),
        ("htp://h/a", "os", "nearest known is http"),
        ("s3:///a", "obstore", "is not understood"),
        ("s3://b/a?secret=x", "obstore", "is not understood"),
        ("nats://h", "nats", "is not understood"),
        ("nats://h/a/b", "nats", "is not understood"),
    ],
)
def test_an_address_that_means_none_is_told(address: str, module: str, said: str) -> None:
    pytest.importorskip(module)
    with pytest.raises(UsageError, match=said):
        source_of(address, parallel=1)


@pytest.mark.parametrize("address", ["build", "./build", "10.0.0.1:8000", "origin.example/www", "ftp://h/a"])
def test_an_address_that_nodes_cannot_find_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"is not where nodes can look; accepted: http://|scheme that is not known"):
        check_for_nodes(address)


def test_an_address_that_nodes_can_find_is_taken() -> None:
    for address in ("/srv/build", "file:///srv/build", "http://h/", "s3://bucket", "nats://h/bucket"):
        check_for_nodes(address)
