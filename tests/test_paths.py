"""A path as it was sent, and its key: what stands behind a prefix, and what leads out of it."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest

from zcserve.errors import HttpError
from zcserve.http import canonical_path
from zcserve.paths import SentPath


@pytest.mark.parametrize(
    ("sent", "key", "behind"),
    [
        (b"/app", b"/app", b""),
        (b"/app/", b"/app/", b"/"),
        (b"/app/a/b", b"/app/a/b", b"/a/b"),
        (b"/app/a//b", b"/app/a/b", b"/a//b"),
        (b"/app/http://e.com//x", b"/app/http:/e.com/x", b"/http://e.com//x"),
        (b"/app//", b"/app/", b"//"),
        (b"/app/.", b"/app/", b"/."),
        (b"/app/./a/%2e/b", b"/app/a/b", b"/./a/./b"),
        (b"/app/a/../b", b"/app/b", b"/a/../b"),
        (b"/app/a/%2e%2E", b"/app/", b"/a/.."),
        (b"/app/a%2Fb", b"/app/a/b", b"/a/b"),
        (b"/app/%252F", b"/app/%252F", b"/%2F"),  # decoded once
        (b"/app/caf%E9", b"/app/caf%E9", b"/caf\xe9"),
        (b"/app/%00", b"/app/%00", b"/\0"),
        (b"/app/100%", b"/app/100%25", b"/100%"),
        (b"/app/%zz%4", b"/app/%25zz%254", b"/%zz%4"),
        (b'/app/[x]|"', b"/app/%5Bx%5D%7C%22", b'/[x]|"'),
        # What reaches the prefix by another way is told from there.
        (b"/%61pp/x", b"/app/x", b"/x"),
        (b"//app/x", b"/app/x", b"/x"),
        (b"/./app//x", b"/app/x", b"//x"),
        (b"/x/../app/y", b"/app/y", b"/y"),
        (b"/../app/y", b"/app/y", b"/y"),
        (b"/app/../app/y/../z", b"/app/z", b"/y/../z"),
        (b"/app/a/../../app/../app", b"/app", b""),
    ],
)
def test_what_stands_behind_a_prefix_is_as_sent(sent: bytes, key: bytes, behind: bytes) -> None:
    path = SentPath(sent)
    assert (path.key, path.behind(1)) == (key, behind)
    assert path.decoded == unquote_to_bytes(sent) == path.behind(0)


@pytest.mark.parametrize(
    "sent", [b"/app/../static", b"/app/%2e%2e/static", b"/app%2F..%2Fstatic", b"/app/a/../../static"]
)
def test_what_leads_out_of_a_prefix_does_not_lie_below_it(sent: bytes) -> None:
    assert SentPath(sent).key == b"/static"


@pytest.mark.parametrize("sent", [b"", b"*", b"app", b"/a#b"])
def test_what_is_no_path(sent: bytes) -> None:
    with pytest.raises(HttpError, match="400"):
        SentPath(sent)


def test_laws_of_any_path() -> None:
    pytest.importorskip("hypothesis")
    from hypothesis import given
    from hypothesis import strategies as st

    pieces = st.sampled_from(
        ["/", "//", "a", "b", ".", "..", "%2e", "%2F", "%", "%00", "%ff", "%C3%A9", "%25", "+", ";"]
    )

    @given(st.lists(pieces, max_size=12).map(lambda parts: ("/" + "".join(parts)).encode()), st.integers(0, 3))
    def law(sent: bytes, depth: int) -> None:
        path = SentPath(sent)
        segments = [segment for segment in path.key.split(b"/") if segment]
        if depth > len(segments):
            return
        behind = path.behind(depth)
        assert path.decoded == unquote_to_bytes(sent)
        assert path.decoded.endswith(behind)
        assert behind[:1] in (b"", b"/")
        # It leads where the key does, and never above its own beginning.
        escaped = b"".join(b"%%%02X" % byte if byte != 0x2F else b"/" for byte in behind)
        assert SentPath(b"".join(b"/" + segment for segment in segments[:depth]) + escaped).key == path.key
        level = 0
        for segment in behind.split(b"/") if depth else ():
            level += (segment not in (b"", b".", b"..")) - (segment == b"..")
            assert level >= 0
        try:
            assert canonical_path(sent) == path.key
            assert path.is_plain
        except HttpError:
            assert not path.is_plain or "\ufffd" in path.decoded.decode(errors="replace")

    law()
