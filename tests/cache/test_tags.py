"""zcserve.cache.tags: one tag for the same bytes, on every machine and however they are read."""

from __future__ import annotations

import mmh3
import pytest

from tests.support.trees import noise
from zcserve.cache.tags import PIECE_BYTES, content_tag, identity_tag, is_identity_tag, tag_of, tag_of_all


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_content_in_pieces_has_the_tag_that_it_has_in_one(size: int) -> None:
    content = noise(size)
    assert tag_of(content) == content_tag(mmh3.hash_bytes(content, 0, True))
    hasher = mmh3.mmh3_x64_128()
    for at in range(0, size, 100_000):
        hasher.update(content[at : at + 100_000])
    assert content_tag(hasher.digest()) == tag_of(content)
    assert tag_of_all(content[at : at + 100_000] for at in range(0, size, 100_000)) == tag_of(content)


def test_a_tag_is_the_same_on_every_machine_of_a_fleet() -> None:
    assert tag_of(b"hello") == b'"029bbd41b3a7d8cb191dae486a901e5b"'
    assert tag_of(b"") == b'"00000000000000000000000000000000"'


def test_other_content_has_another_tag() -> None:
    contents = [b"", b"a", b"b", b"a" * PIECE_BYTES, b"a" * PIECE_BYTES + b"b", b"a" * PIECE_BYTES + b"c"]
    assert len({tag_of(content) for content in contents}) == len(contents)


def test_a_tag_of_an_identity_is_as_long_and_never_one_of_content() -> None:
    tag = identity_tag(bytes(40))
    assert len(tag) == len(tag_of(b""))
    assert tag.startswith(b'"')
    assert tag.endswith(b'"')
    assert tag != identity_tag(bytes(39) + b"\1")
    assert tag == identity_tag(bytes(40))
    assert is_identity_tag(tag)
    assert not is_identity_tag(tag_of(b"id-"))
    assert not is_identity_tag(b"")
