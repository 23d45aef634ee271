"""Names and the Content-Type they have."""

from __future__ import annotations

import pytest

from zcserve import media_types
from zcserve.errors import UsageError
from zcserve.media_types import MediaTypes, check_charset, is_compressible, media_type, parse_type


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


# What IANA's registry and Chromium's net/base/mime_util.cc say, as far as both agree or only one speaks.
KNOWN = """
html htm shtml=text/html css=text/css js mjs=text/javascript txt text log=text/plain csv=text/csv vtt=text/vtt
md markdown=text/markdown ics=text/calendar vcf=text/vcard tsv=text/tab-separated-values xml=text/xml
xhtml xht xhtm=application/xhtml+xml atom=application/atom+xml rss=application/rss+xml rdf=application/rdf+xml
svg svgz=image/svg+xml png=image/png apng=image/apng jpg jpeg jfif pjpeg pjp=image/jpeg gif=image/gif webp=image/webp
avif=image/avif jxl=image/jxl bmp=image/bmp tif tiff=image/tiff ico=image/vnd.microsoft.icon heic=image/heic
jp2=image/jp2 xbm=image/x-xbitmap ktx2=image/ktx2 psd=image/vnd.adobe.photoshop
json map=application/json jsonld=application/ld+json geojson=application/geo+json webmanifest=application/manifest+json
yaml yml=application/yaml toml=application/toml sql=application/sql cbor=application/cbor nt=application/n-triples
wasm=application/wasm pdf=application/pdf epub=application/epub+zip rtf=application/rtf gpx=application/gpx+xml
m3u8=application/vnd.apple.mpegurl mpd=application/dash+xml m4s=video/iso.segment ts=video/mp2t mp4 m4v=video/mp4
webm=video/webm ogv=video/ogg ogx=application/ogg mkv=video/matroska mov=video/quicktime mpg mpeg=video/mpeg
3gp=video/3gpp 3g2=video/3gpp2 mka=audio/matroska mp3=audio/mpeg m4a=audio/mp4 ogg oga opus=audio/ogg flac=audio/flac
wav=audio/wav aac=audio/aac weba=audio/webm woff=font/woff woff2=font/woff2 ttf=font/ttf
otf=font/otf ttc=font/collection
eot=application/vnd.ms-fontobject gltf=model/gltf+json glb=model/gltf-binary stl=model/stl obj=model/obj mtl=model/mtl
usdz=model/vnd.usdz+zip 3mf=model/3mf step=model/step dae=model/vnd.collada+xml
gz tgz=application/gzip zst=application/zstd zip=application/zip rar=application/vnd.rar br=application/octet-stream
apk=application/vnd.android.package-archive deb=application/vnd.debian.binary-package jar=application/java-archive
dmg=application/x-apple-diskimage iso=application/x-iso9660-image 7z=application/x-7z-compressed
exe=application/octet-stream
docx=application/vnd.openxmlformats-officedocument.wordprocessingml.document xls=application/vnd.ms-excel
odt=application/vnd.oasis.opendocument.text odg=application/vnd.oasis.opendocument.graphics p12=application/x-pkcs12
crl=application/pkix-crl sqlite3=application/vnd.sqlite3 parquet=application/vnd.apache.parquet eml=message/rfc822
shtm ehtml=text/html mht mhtml=multipart/related ogm=video/ogg xbl=text/xml p7z=application/pkcs7-mime
xul=application/vnd.mozilla.xul+xml wgsl=text/wgsl mml=application/mathml+xml ttml=application/ttml+xml
smil=application/smil+xml
dcm=application/dicom fits=image/fits exr=image/aces ktx=image/ktx jpx=image/jpx wrl=model/vrml au=audio/basic
sarif=application/sarif+json mpe m2v=video/mpeg vcard=text/vcard
"""


def test_the_types_are_those_of_the_registry_and_of_browsers() -> None:
    names: list[str] = []
    for word in KNOWN.split():
        extension, _, essence = word.partition("=")
        names.append(extension)
        if essence:
            assert {name: media_type(f"a.{name}").partition(";")[0] for name in names} == dict.fromkeys(names, essence)
            names = []


def test_a_charset_is_for_text_and_xml_alone() -> None:
    types = MediaTypes("iso-8859-1")
    assert [types.of(name) for name in ("a.txt", "a.svg", "a.json", "a.png")] == [
        "text/plain; charset=iso-8859-1", "image/svg+xml; charset=iso-8859-1", "application/json", "image/png",
    ]  # fmt: skip
    assert [MediaTypes("None").of(name) for name in ("a.txt", "a.svg")] == ["text/plain", "image/svg+xml"]


@pytest.mark.parametrize(
    ("own", "name", "expected"),
    [
        ("ts=text/plain", "a.ts", "text/plain; charset=utf-8"),
        (".TS = text/plain", "a.ts", "text/plain; charset=utf-8"),
        ("foo=application/x-foo", "a.FOO", "application/x-foo"),
        ("html=text/html; charset=koi8-r", "a.html", "text/html; charset=koi8-r"),
        ('x=multipart/related;boundary="a b"', "a.x", 'multipart/related;boundary="a b"'),
        ("x=image/foo+xml", "a.x", "image/foo+xml; charset=utf-8"),
    ],
)
def test_a_type_of_ones_own_goes_before_the_table(own: str, name: str, expected: str) -> None:
    assert MediaTypes(own=(own,)).of(name) == expected


@pytest.mark.parametrize(
    "wrong",
    ["", "ts", "ts=", "=text/plain", "tar.gz=a/b",
     "a/b=c/d", "x=text", "x=text/", "x=text/plain;", "x=a/b; c", "x=a/b\r\nX: y",
     "x=a/b; c=\"\n\""],
)  # fmt: skip
def test_what_is_no_type_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="accepted: "):
        parse_type(wrong)


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("ts=textplain", "text/plain"),
        ("js=text/javascript;", "text/javascript"),
        ("png=image-png", "image/png"),
        ("foo=!", "application/octet-stream"),
    ],
)
def test_the_nearest_known_is_named(wrong: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=f"the nearest known is {nearest}$"):
        parse_type(wrong)


@pytest.mark.parametrize("charset", ["charset=utf-88", 'Charset="utf-88"'])
def test_the_charset_of_a_type_is_known(charset: str) -> None:
    with pytest.raises(UsageError, match=r"'utf-88' is not a charset.*; the nearest is utf-8$"):
        parse_type(f"html=text/html; {charset}")


KNOWN_CHARSETS = (
    "utf-8 UTF8 Latin1 iso-8859-1 Windows-1252 x-sjis x-mac-roman x-user-defined koi8-u iso-8859-8-i dos-874 gb18030 "
    "unicode11utf8 csisolatin1 big5-hkscs utf-16le utf-32 cp437 iso2022_jp_3 none NONE"
)


@pytest.mark.parametrize("name", KNOWN_CHARSETS.split())
def test_what_browsers_or_python_know_is_a_charset(name: str) -> None:
    check_charset(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("klingon", "korean"), ("iso-8859-99", "iso-8859-9"), ("utf_88", "utf8"), ("windows1252x", "windows-1252")],
)
def test_an_unknown_charset_is_refused(name: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=f"{name}.*; the nearest is {nearest}$"):
        check_charset(name)


@pytest.mark.parametrize("name", ["rot13", "base64", "idna", "punycode", "unicode_escape", "undefined", "zlib"])
def test_a_codec_of_something_else_is_no_charset(name: str) -> None:
    with pytest.raises(UsageError, match="the nearest is"):
        check_charset(name)


@pytest.mark.parametrize("wrong", ["", "utf 8", "utf-8;", 'a"b', "\n", "x" * 99])
def test_what_is_no_charset_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="accepted"):
        check_charset(wrong)


def test_only_svgz_has_a_coding_of_its_own() -> None:
    assert MediaTypes().coding("dir/A.SVGZ") == b"gzip"
    assert MediaTypes().coding("a.svg.gz") == MediaTypes().coding("svgz") == b""
    assert MediaTypes(own=("svgz=application/gzip",)).coding("a.svgz") == b""


def test_no_extension_has_two_types() -> None:
    extensions = [extension for line in media_types.TABLE.splitlines() for extension in line.split()[1:]]
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
