"""Field values and what they mean: (kind, value, meaning), in the numbers of the lane (zcserve/net/lane/grammar.pxd).

Each is judged by the C function and by its Python twin (tests/net/test_grammar.py). `USUAL` are values that browsers,
tools, crawlers and CDNs send: C knows them all. Of `ODD` C may be unsure.
"""

from __future__ import annotations

from zcserve.net.fastlane import ACCEPT, CONNECTION_10, CONNECTION_11, HOST, UPGRADE
from zcserve.net.fields import CLOSE, KEEP, KEEP_10

Row = tuple[int, bytes, tuple[int, ...]]

IDENTITY_ALONE = (1000, 0, 0, 0)

USUAL: tuple[Row, ...] = (
    *((HOST, host, (1,)) for host in (
        b"example.com", b"www.example.com", b"example.com:8080", b"localhost", b"localhost:8000", b"127.0.0.1",
        b"127.0.0.1:8080",
        b"a.b-c_d~e", b"EXAMPLE.com", b"xn--bcher-kva.example", b"cdn-7.eu_west.example.net:443",
        b"d111111abcdef8.cloudfront.net",
    )),
    (ACCEPT, b"gzip, deflate, br, zstd", (1000, 1000, 1000, 1000)),  # Chrome, Firefox
    (ACCEPT, b"gzip, deflate, br", (1000, 1000, 1000, 0)),  # Safari, Googlebot
    (ACCEPT, b"gzip, deflate", (1000, 0, 1000, 0)),
    (ACCEPT, b"gzip,deflate,br", (1000, 1000, 1000, 0)),
    (ACCEPT, b"deflate, gzip, br, zstd", (1000, 1000, 1000, 1000)),  # curl --compressed
    (ACCEPT, b"gzip", (1000, 0, 1000, 0)),  # Go, CDNs
    (ACCEPT, b"br, gzip", (1000, 1000, 1000, 0)),
    (ACCEPT, b"gzip, br", (1000, 1000, 1000, 0)),  # Cloudflare
    (ACCEPT, b"identity", IDENTITY_ALONE),  # Wget, Python, media elements
    (ACCEPT, b"*", (1000, 1000, 1000, 1000)),
    (ACCEPT, b"*/*", IDENTITY_ALONE),
    (ACCEPT, b"identity;q=1, *;q=0", (1000, 0, 0, 0)),  # Chrome, for video
    (ACCEPT, b"gzip;q=1.0,deflate;q=0.6,identity;q=0.3", (300, 0, 1000, 0)),  # Ruby
    (ACCEPT, b"br;q=1.0, gzip;q=0.8, *;q=0.1", (100, 1000, 800, 100)),
    (ACCEPT, b"gzip, x-gzip, deflate, x-deflate", (1000, 0, 1000, 0)),
    (ACCEPT, b"gzip,deflate,compress;q=0.5", (500, 0, 1000, 0)),
    (ACCEPT, b"x-gzip", (1000, 0, 1000, 0)),
    (ACCEPT, b"", IDENTITY_ALONE),
    (CONNECTION_11, b"keep-alive", (KEEP,)),
    (CONNECTION_11, b"Keep-Alive", (KEEP,)),
    (CONNECTION_11, b"close", (CLOSE,)),
    (CONNECTION_11, b"Close", (CLOSE,)),
    (CONNECTION_11, b"TE", (KEEP,)),
    (CONNECTION_11, b"close, TE", (CLOSE,)),
    (CONNECTION_11, b"TE, keep-alive", (KEEP,)),
    (CONNECTION_11, b"", (KEEP,)),
    (CONNECTION_11, b"Upgrade, HTTP2-Settings", (UPGRADE,)),  # curl --http2
    (CONNECTION_11, b"keep-alive, Upgrade", (UPGRADE,)),  # Firefox, for a WebSocket
    (CONNECTION_10, b"keep-alive", (KEEP_10,)),
    (CONNECTION_10, b"Keep-Alive", (KEEP_10,)),  # ab -k
    (CONNECTION_10, b"close", (CLOSE,)),
    (CONNECTION_10, b"", (CLOSE,)),
)  # fmt: skip

ODD: tuple[Row, ...] = (
    *((HOST, host, (1,)) for host in (
        b"", b"%41", b"a%2Fb", b"test:", b"test:0", b"test:65535", b"test:0000000065535", b"[::1]", b"[::1]:80",
        b"[v1.a:b]", b"[vF.!]:1", b"a,b", b"!$&'()*+,;=~_.-", b"x" * 5000, b"%41%42c%43:1",
        b"a%41:",
    )),
    *((HOST, host, (0,)) for host in (
        b":80", b":", b"te st", b"test:65536", b"test:99999", b"test:123456", b"test:8a", b"test:-1",
        b"test:80:80", b"user@test",
        b"test/", b"test\x80", b"a\xc3\xa4", b"%4", b"%", b"%zz", b"a%4g", b"a%", b"[::1", b"[]", b"[::1%25eth0]",
        b"[:::]", b"[v.a]",
        b"[::1]x", b"a[::1]", b'"a"', b"a\tb", b"a?", b"a#", b"test:65535 ", b"[1.2.3.4]", b"%41 ",
    )),
    # Python's to look for: the lane knows these by their shortest form.
    *((HOST, host, (0,)) for host in (b"[1:2:3:4:5:6:7::]", b"[0::1]:80")),
    (ACCEPT, b"GZip", (1000, 0, 1000, 0)),
    (ACCEPT, b"X-GZIP;q=0.25", (250, 0, 250, 0)),
    (ACCEPT, b"gzip;q=0", (1000, 0, 0, 0)),
    (ACCEPT, b"gzip;q=0.5", (500, 0, 500, 0)),
    (ACCEPT, b"gzip;q=1.", (1000, 0, 1000, 0)),
    (ACCEPT, b"gzip;q=0.", (1000, 0, 0, 0)),
    (ACCEPT, b"gzip;q=0.001", (1, 0, 1, 0)),
    (ACCEPT, b"gzip;q=1.000", (1000, 0, 1000, 0)),
    (ACCEPT, b"gzip\t ;\t q=0.12", (120, 0, 120, 0)),
    (ACCEPT, b"gzip;Q=0.2", (200, 0, 200, 0)),
    *((ACCEPT, b"gzip" + weight, IDENTITY_ALONE) for weight in (
        b";q=2", b";q=1.001", b";q=1.0000", b";q=0.0000", b";q=.5", b";q=", b";q", b";", b" ;", b";q=-1",
        b"; q = 1", b";q =1", b";q= 1",
        b" x", b"\tx", b";q=0.5;x", b";x=1", b";q=0.5.5", b";q=00", b";q=10", b";q=0.5q", b"\x80", b'"', b"/1",
        b";;q=1", b";q=0 5",
    )),
    (ACCEPT, b"gzip;q=0.5x, br", (1000, 1000, 0, 0)),
    (ACCEPT, b";q=0.5, br", (1000, 1000, 0, 0)),
    (ACCEPT, b", ,\t,gzip , ,", (1000, 0, 1000, 0)),
    (ACCEPT, b",", IDENTITY_ALONE),
    (ACCEPT, b"gzip, gzip;q=0.5", (500, 0, 500, 0)),
    (ACCEPT, b"gzip;q=0.5, x-gzip;q=0.25", (250, 0, 250, 0)),
    (ACCEPT, b"gzip;q=0, gzip", (1000, 0, 0, 0)),
    (ACCEPT, b"identity;q=0", (0, 0, 0, 0)),
    (ACCEPT, b"identity;q=0, gzip", (0, 0, 1000, 0)),
    (ACCEPT, b"*;q=0", (0, 0, 0, 0)),
    (ACCEPT, b"*;q=0, br", (0, 1000, 0, 0)),
    (ACCEPT, b"*;q=0.5, identity", (1000, 500, 500, 500)),
    (ACCEPT, b"*, *;q=0.25", (250, 250, 250, 250)),
    (ACCEPT, b"foo;q=0.5", (500, 0, 0, 0)),
    (ACCEPT, b"foo;q=0.5, foo;q=0.25", (250, 0, 0, 0)),
    (ACCEPT, b"foo;q=0.5, foo;q=0", (1000, 0, 0, 0)),
    (ACCEPT, b"foo;q=0.5, bar;q=0", (500, 0, 0, 0)),
    (ACCEPT, b"foo, foo;q=0", (1000, 0, 0, 0)),
    (ACCEPT, b"gzip-", IDENTITY_ALONE),
    (ACCEPT, b"gzi", IDENTITY_ALONE),
    (ACCEPT, b"zSTD", (1000, 0, 0, 1000)),
    (ACCEPT, b"gzip" + b"," * 99, (1000, 0, 1000, 0)),
    (ACCEPT, b"gzip" + b"," * 100, IDENTITY_ALONE),
    (ACCEPT, b"identity;q=0" + b",x y" * 100, IDENTITY_ALONE),
    (CONNECTION_11, b"close, keep-alive", (CLOSE,)),
    (CONNECTION_11, b"keep-alive, close", (CLOSE,)),
    (CONNECTION_11, b" , ,CLOSE\t,", (CLOSE,)),
    (CONNECTION_11, b"clos", (KEEP,)),
    (CONNECTION_11, b"close close", (KEEP,)),
    (CONNECTION_11, b'"close"', (KEEP,)),
    (CONNECTION_11, b"close;x", (KEEP,)),
    (CONNECTION_11, b"upgrades", (KEEP,)),
    (CONNECTION_11, b"close, upgrade", (UPGRADE,)),
    (CONNECTION_11, b"\x80\xff", (KEEP,)),
    (CONNECTION_10, b"keep-alive, close", (CLOSE,)),
    (CONNECTION_10, b"te", (CLOSE,)),
    (CONNECTION_10, b"te, KEEP-alive", (KEEP_10,)),
    (CONNECTION_10, b"upgrade", (UPGRADE,)),
)  # fmt: skip

VECTORS = USUAL + ODD
