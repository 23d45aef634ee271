"""What a file is, by its name: the value of Content-Type, and whether compressing it pays.

The table is our own and whole. It consults neither the machine (/etc/mime.types) nor `mimetypes`, whose
built-in table differs from one CPython to the next (3.11 has application/javascript, 3.12 text/javascript)
and whose classes read the machine's files when made: a tree must have the same heads on all nodes of a fleet.

It knows no content and no encodings: `page.tar.gz` is a gzip file. Whether `page.css.gz` is rather a variant
of `page.css` is the loader's to say.
"""

from __future__ import annotations

from posixpath import splitext

_UNKNOWN = "application/octet-stream"

# One type a line, and its extensions. IANA's names where there is one, else what browsers and nginx use.
_TABLE = """
text/html                       html htm shtml
text/css                        css
text/javascript                 js mjs cjs
text/plain                      txt text log ini conf cfg asc bib diff patch srt
text/plain                      c h cc cpp hpp go rs java lua pl rb bat
text/markdown                   md markdown
text/csv                        csv
text/tab-separated-values       tsv
text/calendar                   ics ifb
text/vcard                      vcf
text/vtt                        vtt
text/xml                        xml
text/turtle                     ttl
text/n3                         n3
text/x-python                   py

application/json                json map topojson har
application/ld+json             jsonld
application/geo+json            geojson
application/manifest+json       webmanifest
application/x-ndjson            ndjson jsonl
application/x-ipynb+json        ipynb
application/yaml                yaml yml
application/toml                toml
application/sql                 sql

application/xhtml+xml           xhtml xht
application/atom+xml            atom
application/rss+xml             rss
application/rdf+xml             rdf
application/xslt+xml            xsl xslt
application/xml                 xsd
application/xml-dtd             dtd
application/gpx+xml             gpx
application/vnd.google-earth.kml+xml    kml
application/vnd.google-earth.kmz        kmz
application/dash+xml            mpd
application/vnd.apple.mpegurl   m3u8 m3u

image/png                       png
image/apng                      apng
image/jpeg                      jpg jpeg jpe jfif
image/gif                       gif
image/webp                      webp
image/avif                      avif
image/jxl                       jxl
image/heic                      heic
image/heif                      heif
image/svg+xml                   svg
image/vnd.microsoft.icon        ico cur
image/bmp                       bmp
image/tiff                      tif tiff

font/woff                       woff
font/woff2                      woff2
font/ttf                        ttf
font/otf                        otf
font/collection                 ttc
application/vnd.ms-fontobject   eot

audio/mpeg                      mp3 mp2
audio/mp4                       m4a
audio/aac                       aac
audio/ogg                       ogg oga opus
audio/flac                      flac
audio/wav                       wav
audio/webm                      weba
audio/midi                      mid midi
audio/aiff                      aif aiff

video/mp4                       mp4 m4v
video/iso.segment               m4s
video/webm                      webm
video/ogg                       ogv
video/mpeg                      mpg mpeg
video/mp2t                      ts
video/quicktime                 mov qt
video/matroska                  mkv
video/x-msvideo                 avi
video/3gpp                      3gp

model/gltf+json                 gltf
model/gltf-binary               glb
model/obj                       obj
model/stl                       stl
model/vnd.usdz+zip              usdz

application/wasm                wasm
application/pdf                 pdf
application/postscript          ps eps ai
application/rtf                 rtf
application/x-tex               tex
application/epub+zip            epub
application/msword              doc dot
application/vnd.ms-excel        xls
application/vnd.ms-powerpoint   ppt
application/vnd.openxmlformats-officedocument.wordprocessingml.document     docx
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet           xlsx
application/vnd.openxmlformats-officedocument.presentationml.presentation   pptx
application/vnd.oasis.opendocument.text             odt
application/vnd.oasis.opendocument.spreadsheet      ods
application/vnd.oasis.opendocument.presentation     odp
application/vnd.sqlite3         sqlite sqlite3
application/vnd.apache.parquet  parquet

application/gzip                gz tgz svgz
application/zstd                zst
application/x-bzip2             bz2
application/x-xz                xz
application/x-tar               tar
application/zip                 zip
application/x-7z-compressed     7z
application/vnd.rar             rar
application/java-archive        jar war
application/vnd.android.package-archive     apk
application/vnd.debian.binary-package       deb
application/x-rpm               rpm
application/x-apple-diskimage   dmg
application/x-iso9660-image     iso
application/x-msi               msi
application/x-xpinstall         xpi
application/x-bittorrent        torrent

application/x-sh                sh
application/pgp-signature       sig
application/pkix-cert           cer crt
application/x-pem-file          pem
message/rfc822                  eml mht mhtml
"""

# What compresses besides text/*, +json and +xml. Nothing that is compressed inside (woff2, png, zip, docx).
_OTHER_COMPRESSIBLE = """
application/json application/x-ndjson application/yaml application/toml application/sql application/javascript
application/xml application/xml-dtd application/vnd.apple.mpegurl application/wasm application/x-tar
application/postscript application/rtf application/x-tex application/x-sh application/x-pem-file
application/vnd.ms-fontobject font/ttf font/otf font/collection message/rfc822
image/vnd.microsoft.icon image/x-icon image/bmp model/obj model/stl model/gltf-binary
"""
_COMPRESSIBLE = frozenset(_OTHER_COMPRESSIBLE.split())


def _content_type(essence: str) -> str:
    """`essence` with its charset where one applies: text of any kind, and XML (RFC 7303).

    JSON has none: the parameter is not defined for it (RFC 8259 section 11).
    """
    is_text = essence.startswith("text/") or essence.endswith("xml") or essence == "application/xml-dtd"
    return f"{essence}; charset=utf-8" if is_text else essence


_CONTENT_TYPES: dict[str, str] = {
    f".{extension}": _content_type(essence)
    for essence, *extensions in map(str.split, filter(None, _TABLE.splitlines()))
    for extension in extensions
}


def media_type(name: str) -> str:
    """The Content-Type value (RFC 9110 section 8.3) of a file with this name or path, by its last extension.

    Case does not matter; an extension that is unknown or not there means application/octet-stream.
    """
    return _CONTENT_TYPES.get(splitext(name)[1].lower(), _UNKNOWN)


def is_compressible(media_type: str) -> bool:
    """Whether content of this type (a Content-Type value, parameters and all) is worth compressing."""
    essence = media_type.partition(";")[0].strip().lower()
    return essence.startswith("text/") or essence.endswith(("+json", "+xml")) or essence in _COMPRESSIBLE
