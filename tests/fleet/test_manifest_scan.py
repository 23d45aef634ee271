"""A manifest in canonical form is taken apart by a pattern: it says what the general way says, or nothing."""

from __future__ import annotations

import pytest

from zcserve.fleet import manifest_scan
from zcserve.fleet.manifest import Encoding, File, Manifest, ManifestError, Signature

ETAG = '"' + "2" * 32 + '"'
FILES = {
    "/a/b%20c.html": File(3, "1" * 64, ETAG, "text/html", {"br": Encoding(2, "3" * 64, "")}, ("t", "u"), -5),
    "/%FF.css": File(0, "4" * 64, "", 'text/css; charset="utf-8"', {}, (), 0),
    "/_headers": File(9, "5" * 64, "", "", {}, (), 0),
    "/z.js": File(
        1 << 42,
        "6" * 64,
        ETAG,
        "text/javascript",
        {"br": Encoding(0, "7" * 64, ETAG), "gzip": Encoding(1, "8" * 64, ""), "zstd": Encoding(2, "9" * 64, ETAG)},
        ("t",),
        100,
    ),
}
MADE = Manifest.of("www", 7, FILES).with_signatures(Signature("0" * 32, "A" * 86 + "=="))


def read(data: bytes) -> Manifest | None:
    try:
        return Manifest.parse(data)
    except ManifestError:
        return None


def in_general(data: bytes) -> Manifest | None:
    """With a blank before it, it is in no canonical form."""
    assert manifest_scan.scan(b" " + data) is None
    return read(b" " + data)


@pytest.mark.parametrize("data", [MADE.to_bytes(), MADE.to_bytes() + b"\n"])
def test_what_is_written_is_scanned_and_is_what_the_general_way_reads(data: bytes) -> None:
    found = manifest_scan.scan(data)
    assert found
    assert len(found.files) == len(FILES)
    assert b'{"files":' + found.text + b"," + found.rest[1:] == data
    assert read(data) == in_general(data) == MADE
    assert Manifest.parse(data).to_bytes() == MADE.to_bytes()
    assert Manifest.parse(data).digest == MADE.digest


def test_whichever_byte_changes_both_ways_say_the_same() -> None:
    data = MADE.to_bytes()
    taken = 0
    for at in range(len(data)):
        for other in (data[at] ^ 1, ord('"')):
            changed = data[:at] + bytes((other,)) + data[at + 1 :]
            made = read(changed)
            assert made == in_general(changed), changed[at - 20 : at + 20]
            taken += made is not None and changed != data
    assert taken  # a digit of a signature, or of the sequence


def with_files(text: str) -> bytes:
    return b'{"files":{%b},"format":1}' % text.encode()


FILE = '"/a":{"encodings":{},"etag":"","priority":0,"sha256":"%s","size":1,"tags":[],"type":"text/html"}' % ("1" * 64)


@pytest.mark.parametrize(
    "text",
    [
        FILE.replace('"/a"', '"a"'),
        FILE.replace('"/a"', r'"/\u0061"'),
        FILE.replace('"/a"', '"/é"'),
        FILE.replace('"size":1', '"size":01'),
        FILE.replace('"size":1', '"size":1.0'),
        FILE.replace('"size":1', '"size":-1'),
        FILE.replace('"priority":0', '"priority":-0'),
        FILE.replace('"priority":0', '"priority":1000'),
        FILE.replace('"1111', '"A111'),
        FILE.replace('"etag":"",', ""),
        FILE.replace('"etag":""', '"etag":"2"'),
        FILE.replace(":", ": "),
        FILE + ",",
        "," + FILE,
        FILE + FILE,
        f"{FILE},{FILE}",
        FILE.replace("/a", "/b") + "," + FILE,
        "",
    ],
)
def test_files_in_another_form_are_not_scanned(text: str) -> None:
    assert manifest_scan.scan(with_files(FILE))
    assert manifest_scan.scan(with_files(text)) is None


CODED = '"%s":{"etag":"","sha256":"' + "1" * 64 + '","size":1}'


@pytest.mark.parametrize(
    ("text", "codings"),
    [
        ("", []),
        (CODED % "br", ["br"]),
        (f"{CODED % 'br'},{CODED % 'gzip'}", ["br", "gzip"]),
        (f"{CODED % 'gzip'},{CODED % 'br'}", None),
        (f"{CODED % 'br'},{CODED % 'br'}", None),
        (f"{CODED % 'br'}{CODED % 'gzip'}", None),
        (f"{CODED % 'br'},", None),
        (f",{CODED % 'br'}", None),
        (CODED % "lzma", None),
    ],
)
def test_encodings_are_in_order_and_each_is_there_once(text: str, codings: list[str] | None) -> None:
    found = manifest_scan.encodings_in(text)
    assert (None if found is None else [coding for coding, *_ in found]) == codings


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("", []),
        ('"a","b"', ["a", "b"]),
        (r'"\""', ['"']),
        (r'"\u00e9"', ["é"]),
        (r'"\u0061"', None),
        ('"a", "b"', None),
        ('"a" "b"', None),
        ('"a",', None),
        ('"é"', None),
    ],
)
def test_texts_are_read_in_the_form_in_which_they_are_written(text: str, texts: list[str] | None) -> None:
    assert manifest_scan.texts_in(text) == texts
