"""What a file is, by its name: the value of Content-Type, and whether compressing it pays.

The table is our own and whole. It consults neither the machine (/etc/mime.types) nor `mimetypes`, whose
built-in table differs from one CPython to the next (3.11 has application/javascript, 3.12 text/javascript)
and whose classes read the machine's files when made: a tree must have the same heads on all nodes of a fleet.

It knows no content and no variants: `page.tar.gz` is a gzip file. Whether `page.css.gz` is a variant of `page.css`
as well is the walk's to say. Only `.svgz` names a type and a coding at once.

The types are those of IANA's registry, else those of Chromium's net/base/mime_util.cc, else those that web servers
agree on. An extension that two formats share has the one that browsers do something with: `.ts` is a segment of video,
not TypeScript (`--type ts=text/plain`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from posixpath import splitext

from zcserve import charsets
from zcserve.errors import UsageError, nearest

_UNKNOWN = "application/octet-stream"

# One type a line, and its extensions. IANA's names where there is one, else what browsers and nginx use.
TABLE = """
text/html                       html htm shtml shtm ehtml
text/css                        css
text/javascript                 js mjs cjs es
text/plain                      txt text log ini conf cfg asc bib diff patch srt
text/plain                      c h cc cpp hpp go rs java lua pl rb bat jsx tsx scss sass less
text/cache-manifest             appcache
text/markdown                   md markdown
text/csv                        csv
text/tab-separated-values       tsv
text/calendar                   ics ifb
text/vcard                      vcf vcard
text/vtt                        vtt
text/xml                        xml xbl
text/turtle                     ttl
text/n3                         n3
text/wgsl                       wgsl
text/uri-list                   uri uris
text/x-python                   py

application/json                json map topojson har
application/ld+json             jsonld
application/geo+json            geojson
application/manifest+json       webmanifest
application/x-ndjson            ndjson jsonl
application/json5               json5
application/cbor                cbor
application/x-ipynb+json        ipynb
application/yaml                yaml yml
application/toml                toml
application/sql                 sql
application/sarif+json          sarif
application/n-triples           nt
application/n-quads             nq
application/trig                trig
application/sparql-query        rq
application/yang                yang
application/sdp                 sdp

application/xhtml+xml           xhtml xht xhtm
application/atom+xml            atom
application/rss+xml             rss
application/rdf+xml             rdf
application/xslt+xml            xsl xslt
application/xml                 xsd
application/xml-dtd             dtd
application/wsdl+xml            wsdl
application/mathml+xml          mml mathml
application/ttml+xml            ttml
application/smil+xml            smil
application/xspf+xml            xspf
application/xliff+xml           xlf
application/sparql-results+xml  srx
application/vnd.mozilla.xul+xml xul
application/gpx+xml             gpx
application/gml+xml             gml
application/vnd.google-earth.kml+xml    kml
application/vnd.google-earth.kmz        kmz
application/dash+xml            mpd
application/vnd.apple.mpegurl   m3u8 m3u

image/png                       png
image/apng                      apng
image/jpeg                      jpg jpeg jpe jfif pjpeg pjp
image/gif                       gif
image/webp                      webp
image/avif                      avif
image/jxl                       jxl
image/heic                      heic
image/heif                      heif
image/svg+xml                   svg svgz
image/vnd.microsoft.icon        ico cur
image/bmp                       bmp
image/tiff                      tif tiff
image/jp2                       jp2
image/ktx2                      ktx2
image/vnd.djvu                  djvu djv
image/vnd.adobe.photoshop       psd
image/x-xbitmap                 xbm
image/jpx                       jpx jpf
image/jph                       jph
image/jxr                       jxr
image/ktx                       ktx
image/aces                      exr
image/fits                      fits fit fts
image/emf                       emf
image/wmf                       wmf
application/dicom               dcm

font/woff                       woff
font/woff2                      woff2
font/ttf                        ttf
font/otf                        otf
font/collection                 ttc
application/vnd.ms-fontobject   eot

audio/mpeg                      mp3 mp2 mpga
audio/mp4                       m4a m4b
audio/matroska                  mka
audio/aac                       aac adts
audio/ac3                       ac3
audio/basic                     au snd
audio/ogg                       ogg oga opus spx
audio/flac                      flac
audio/wav                       wav
audio/webm                      weba
audio/midi                      mid midi
audio/aiff                      aif aiff
audio/x-ms-wma                  wma
audio/AMR                       amr

video/mp4                       mp4 m4v
video/iso.segment               m4s
video/webm                      webm
video/ogg                       ogv ogm
application/ogg                 ogx
video/mpeg                      mpg mpeg mpe m1v m2v
video/mp2t                      ts
application/mxf                 mxf
video/quicktime                 mov qt
video/matroska                  mkv
video/x-msvideo                 avi
video/3gpp                      3gp
video/3gpp2                     3g2
video/x-flv                     flv
video/x-ms-wmv                  wmv

model/gltf+json                 gltf
model/gltf-binary               glb
model/obj                       obj
model/stl                       stl
model/vnd.usdz+zip              usdz
model/vnd.collada+xml           dae
model/mtl                       mtl
model/3mf                       3mf
model/step                      step stp
model/iges                      iges igs
model/vrml                      wrl vrml
model/x3d+xml                   x3d
model/u3d                       u3d
model/prc                       prc

application/wasm                wasm
application/pdf                 pdf
application/postscript          ps eps ai
application/rtf                 rtf
application/x-tex               tex
application/epub+zip            epub
application/x-mobipocket-ebook  mobi
application/msword              doc dot
application/vnd.ms-excel        xls
application/vnd.ms-powerpoint   ppt
application/vnd.openxmlformats-officedocument.wordprocessingml.document     docx
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet           xlsx
application/vnd.openxmlformats-officedocument.presentationml.presentation   pptx
application/vnd.oasis.opendocument.text             odt
application/vnd.oasis.opendocument.spreadsheet      ods
application/vnd.oasis.opendocument.presentation     odp
application/vnd.oasis.opendocument.graphics         odg
application/vnd.sqlite3         sqlite sqlite3
application/vnd.apache.parquet  parquet
application/vnd.apache.arrow.file   arrow
application/geopackage+sqlite3  gpkg
application/vnd.pmtiles         pmtiles
application/vnd.mapbox-vector-tile  mvt

application/gzip                gz tgz
application/zstd                zst
application/x-bzip2             bz2 tbz tbz2
application/x-xz                xz txz
application/x-tar               tar
application/zip                 zip
application/x-7z-compressed     7z
application/vnd.rar             rar
application/vnd.ms-cab-compressed   cab
application/java-archive        jar war
application/vnd.android.package-archive     apk
application/vnd.debian.binary-package       deb
application/x-rpm               rpm
application/x-apple-diskimage   dmg
application/x-iso9660-image     iso
application/x-msi               msi
application/x-xpinstall         xpi
application/x-bittorrent        torrent
application/x-java-jnlp-file    jnlp
application/x-chrome-extension  crx
application/vnd.adobe.flash.movie   swf swl
application/x-ns-proxy-autoconfig   pac

application/x-sh                sh
application/pgp-signature       sig
application/pkix-cert           cer crt der
application/pkix-crl            crl
application/x-pkcs12            p12 pfx
application/pkcs7-signature     p7s
application/pkcs7-mime          p7m p7c p7z
application/x-pem-file          pem
message/rfc822                  eml
multipart/related               mht mhtml
application/mbox                mbox
"""

# What compresses besides text/*, +json and +xml. Nothing that is compressed inside (woff2, png, zip, docx).
_OTHER_COMPRESSIBLE = """
application/json application/x-ndjson application/yaml application/toml application/sql application/javascript
application/xml application/xml-dtd application/json5 application/n-triples application/n-quads application/trig
application/sparql-query application/x-ns-proxy-autoconfig application/vnd.apple.mpegurl application/wasm
application/x-tar application/postscript application/rtf application/x-tex application/x-sh application/x-pem-file
application/vnd.ms-fontobject font/ttf font/otf font/collection message/rfc822
multipart/related application/mbox application/sdp application/yang
image/vnd.microsoft.icon image/x-icon image/bmp image/fits image/emf image/wmf
model/obj model/stl model/vrml model/gltf-binary
"""
_COMPRESSIBLE = frozenset(_OTHER_COMPRESSIBLE.split())


# What a file of this extension is coded in, whatever it is asked for as: a type cannot say so.
_OWN_CODINGS = {".svgz": b"gzip"}

DEFAULT_CHARSET = "utf-8"
NO_CHARSET = "none"

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = rf"[ \t]*;[ \t]*({_TOKEN})=({_TOKEN}|\"[ !#-\[\]-~]*\")"
_CHARSET = re.compile(rf";[ \t]*charset=(?:{_TOKEN}|\"[^\"]*\")", re.IGNORECASE)
_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?:{_PARAMETER})*")
_EXTENSION = re.compile(r"\.?([^./\0]+)")


def check_charset(name: str) -> None:
    """Raises UsageError for what is not a charset's name, or one that nothing knows."""
    if not charsets.is_name(name):
        raise UsageError(f"{name!r:.80} is not a charset's name; accepted: such as utf-8 or iso-8859-1, or none")
    if name.lower() != NO_CHARSET and not charsets.is_known(name):
        near = nearest(name.lower(), sorted(charsets.LABELS))
        raise UsageError(f"{name!r} is not a charset; accepted: what browsers or Python know; the nearest is {near}")


def parse_type(text: str) -> tuple[str, str]:
    """(".ext", Content-Type) from "ext=type/subtype; parameter=value". Raises UsageError."""
    extension, equals, value = text.partition("=")
    match, value = _EXTENSION.fullmatch(extension.strip()), value.strip()
    if not equals or match is None:
        raise UsageError(f"{text!r:.80} is not a type; accepted: EXT=TYPE such as ts=text/plain")
    check_type(value, extension=match[1].lower(), shown=text)
    return f".{match[1].lower()}", value


def check_type(value: str, *, extension: str = "txt", shown: str = "") -> None:
    """Raises UsageError for what is no Content-Type's value (RFC 9110 section 8.3.1), which is `shown` so; `extension`
    is for the nearest that is known."""
    if not _TYPE.fullmatch(value):
        near = _nearest_type(value, extension)
        raise UsageError(f"{shown or value!r:.80} is not a type; accepted: TYPE/SUBTYPE; the nearest known is {near}")
    for name, charset in re.findall(_PARAMETER, value):
        if name.lower() == "charset":
            check_charset(charset.strip('"'))


def _nearest_type(value: str, extension: str) -> str:
    """The known type most like what was written; the extension's own, where nothing is like it."""
    from difflib import get_close_matches  # only a mistake pays for it

    known = sorted({line.split()[0] for line in TABLE.splitlines() if line})
    alike = get_close_matches(value.lower(), known, 1)
    return alike[0] if alike else media_type(f"a.{extension}").partition(";")[0]


def _has_charset(essence: str) -> bool:
    """Whether a charset applies: to text of any kind, and XML (RFC 7303). The parameter is not defined for JSON (RFC
    8259 section 11)."""
    return essence.startswith("text/") or essence.endswith("xml") or essence == "application/xml-dtd"


def _with_charset(essence: str, charset: str) -> str:
    """`charset` is the parameter, "" for none."""
    return essence + charset if _has_charset(essence.lower()) else essence


@cache
def _known_types(charset: str) -> dict[str, str]:
    """Extension -> type, of the table."""
    table = (line.split() for line in TABLE.splitlines() if line)
    return {f".{name}": _with_charset(essence, charset) for essence, *names in table for name in names}


class MediaTypes:
    """The table, with a charset for text (NO_CHARSET: none), and types of the user's own (`parse_type`), which a
    charset is given to unless they have parameters."""

    def __init__(self, charset: str = DEFAULT_CHARSET, own: Iterable[str] = ()) -> None:
        self._parameter = parameter = "" if charset.lower() == NO_CHARSET else f"; charset={charset}"
        self._types = dict(_known_types(parameter))
        self._codings = dict(_OWN_CODINGS)
        for extension, value in map(parse_type, own):
            self._types[extension] = value if ";" in value else _with_charset(value, parameter)
            self._codings.pop(extension, None)

    def of(self, name: str) -> str:
        """The Content-Type value (RFC 9110 section 8.3) of a file with this name or path, by its last extension.

        Case does not matter; an extension that is unknown or not there means application/octet-stream.
        """
        return self._types.get(splitext(name)[1].lower(), _UNKNOWN)

    def told(self, name: str, content_type: str, charset: str) -> str:
        """As `of`, where a rule tells the type, or the charset of what one applies to; "" for what it does not tell."""
        value = self.of(name)
        if content_type:
            value = content_type if ";" in content_type else _with_charset(content_type, self._parameter)
        essence = value.partition(";")[0].strip().lower()
        if charset and _has_charset(essence):
            value = _CHARSET.sub("", value) + ("" if charset.lower() == NO_CHARSET else f"; charset={charset}")
        return value

    def coding(self, name: str) -> bytes:
        """The content coding that a file of this name has of itself, b"" for none."""
        return self._codings.get(splitext(name)[1].lower(), b"")


MEDIA_TYPES = MediaTypes()
media_type = MEDIA_TYPES.of


def is_compressible(media_type: str) -> bool:
    """Whether content of this type (a Content-Type value, parameters and all) is worth compressing."""
    essence = media_type.partition(";")[0].strip().lower()
    return essence.startswith("text/") or essence.endswith(("+json", "+xml")) or essence in _COMPRESSIBLE
