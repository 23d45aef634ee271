"""Names and the Content-Type they have."""

from __future__ import annotations

import pytest

from zcserve import media_types
from zcserve.media_types import is_compressible, media_type


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("INDEX.HTM", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.min.mjs", "text/javascript; charset=utf-8"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.md", "text/markdown; charset=utf-8"),
        ("a.csv", "text/csv; charset=utf-8"),
        ("a.ics", "text/calendar; charset=utf-8"),
        ("a.vtt", "text/vtt; charset=utf-8"),
        ("a.xml", "text/xml; charset=utf-8"),
        ("a.svg", "image/svg+xml; charset=utf-8"),
        ("a.xhtml", "application/xhtml+xml; charset=utf-8"),
        ("feed.atom", "application/atom+xml; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.js.map", "application/json"),
        ("site.webmanifest", "application/manifest+json"),
        ("a.jsonld", "application/ld+json"),
        ("a.wasm", "application/wasm"),
        ("a.png", "image/png"),
        ("a.JPG", "image/jpeg"),
        ("a.webp", "image/webp"),
        ("a.avif", "image/avif"),
        ("favicon.ico", "image/vnd.microsoft.icon"),
        ("a.woff", "font/woff"),
        ("a.woff2", "font/woff2"),
        ("a.ttf", "font/ttf"),
        ("a.mp4", "video/mp4"),
        ("a.webm", "video/webm"),
        ("a.opus", "audio/ogg"),
        ("a.flac", "audio/flac"),
        ("a.glb", "model/gltf-binary"),
        ("a.pdf", "application/pdf"),
        ("a.zip", "application/zip"),
        ("a.tar.gz", "application/gzip"),
        ("a.tar", "application/x-tar"),
        ("a.7z", "application/x-7z-compressed"),
        ("a.css.zst", "application/zstd"),
        ("dir.d/a.css", "text/css; charset=utf-8"),
        ("a.unheard-of", "application/octet-stream"),
        ("LICENSE", "application/octet-stream"),
        ("html", "application/octet-stream"),
        (".html", "application/octet-stream"),
        ("dir.html/file", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_a_name_has_the_type_of_its_last_extension(name: str, expected: str) -> None:
    assert media_type(name) == expected


def test_no_extension_has_two_types() -> None:
    extensions = [extension for line in media_types._TABLE.splitlines() for extension in line.split()[1:]]
    assert len(extensions) == len(set(extensions))
    assert all(extension == extension.lower() for extension in extensions)


COMPRESSIBLE = """
a.html a.css a.js a.txt a.csv a.json a.geojson a.map a.xml a.svg a.rss a.wasm a.ttf a.otf a.eot a.ico a.bmp
a.yaml a.toml a.tar a.m3u8 a.gltf
"""
INCOMPRESSIBLE = """
a.png a.jpg a.webp a.avif a.woff a.woff2 a.mp3 a.mp4 a.zip a.gz a.zst a.pdf a.docx a.epub a.jar a.unknown
"""


@pytest.mark.parametrize("name", COMPRESSIBLE.split())
def test_text_and_what_is_like_it_is_compressible(name: str) -> None:
    assert is_compressible(media_type(name))


@pytest.mark.parametrize("name", INCOMPRESSIBLE.split())
def test_what_is_compressed_or_unknown_is_not(name: str) -> None:
    assert not is_compressible(media_type(name))


def test_compressibility_ignores_case_and_parameters() -> None:
    assert is_compressible("Application/JSON ; profile=x")
    assert is_compressible("application/vnd.anything+json")
    assert not is_compressible("image/png; x=text/plain")
