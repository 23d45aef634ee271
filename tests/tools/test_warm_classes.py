"""What a file counts as."""

from __future__ import annotations

import pytest

from tools.warm.classes import class_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.html", "html"),
        ("a.xhtml", "html"),
        ("A.CSS", "css"),
        ("a.mjs", "script"),
        ("a.wasm", "script"),
        ("a.svg", "image"),
        ("a.ico", "image"),
        ("a.woff2", "font"),
        ("a.eot", "font"),
        ("a.mp4", "video/audio"),
        ("a.mp3", "video/audio"),
        ("a.m3u8", "video/audio"),
        ("a.json", "data"),
        ("a.webmanifest", "data"),
        ("a.rss", "data"),
        ("a.csv", "data"),
        ("a.txt", "text"),
        ("a.pdf", "other"),
        ("a", "other"),
    ],
)
def test_a_file_is_counted_in_the_class_of_its_media_type(name: str, expected: str) -> None:
    assert class_of(name) == expected
