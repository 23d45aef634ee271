"""The operator's list of nodes, and the token's file: read as they are, or refused with the line that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from zcserve.errors import UsageError
from zcserve.fleet.node_list import Listed, read_nodes, read_token


def test_a_list_has_a_node_a_line_with_comments_and_blank_lines(tmp_path: Path) -> None:
    file = tmp_path / "nodes"
    file.write_text("# all\n\nn1 http://10.0.0.1:8090/ http://n1.example\n  n2\thttps://[::1]:1  # no public one\n")
    assert read_nodes(file) == (
        Listed("n1", "http://10.0.0.1:8090", "http://n1.example"),
        Listed("n2", "https://[::1]:1"),
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("n1", "line 1: 'n1' is not understood; accepted: NAME URL"),
        (
            "n1 http://a http://b c",
            "line 1: 'n1 http://a http://b c' is not understood; accepted: NAME URL [PUBLIC-URL]",
        ),
        ("n/1 http://a", "line 1: name: 'n/1'; accepted: letters"),
        ("n1 http://a\nn1 http://b", "line 2: n1 is there twice"),
        ("n1 http://a\nn2 http://b\nn3 http://a/", "line 3: http://a is the agent of n1 already"),
        ("n1 ftp://a", "line 1: 'ftp://a' is not understood; accepted: http"),
        ("n1 http://a:x", "is not understood"),
        ("n1 http://a/path", "is not understood"),
        ("n1 http://u@a", "is not understood"),
        ("n1 http://", "is not understood"),
        ("# none", "names no node"),
    ],
)
def test_a_list_that_is_wrong_is_refused_with_the_line(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "nodes"
    file.write_text(line)
    with pytest.raises(UsageError) as caught:
        read_nodes(file)
    assert said in str(caught.value)


def test_a_token_is_the_first_line(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(" some words \r\n# of all nodes\n")
    assert read_token(file) == "some words"
    for wrong in (b"", b"\nlate", b"\xff", b"a\x07b", b"x" * 5000):
        file.write_bytes(wrong)
        with pytest.raises(UsageError):
            read_token(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_token(tmp_path / "absent")
