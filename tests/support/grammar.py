"""Requests, made at random: valid ones, odd ones, and broken ones.

`Maker.request` writes a request as browsers, caches and scripts write it, with every field that decides anything here
and some that decide nothing; `Maker.spoil` does to bytes what networks and attackers do. All of it comes from one
`random.Random`, so that a seed names a case. Knows nothing of the server but what its files are called.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

Field = tuple[bytes, bytes]

# What the segments of a path that leads nowhere are made of: ends of the classes that a canonical path tells apart.
SEGMENT_BITS = (
    b"a", b"Z", b"0", b".", b"..", b".env", b"%20", b"%C3%A4", b"%c3", b"%2F", b"%41", b"%", b"%00", b"~", b"|", b"\"",
    b"!$&'()*+,;=:@", b"wp-login.php",
)  # fmt: skip

# Where a byte changes meaning: ends of the classes that the grammar of RFC 9112 tells apart.
TELLING_BYTES = b'\0\t\n\r !"#%()+,-./09:;=?@AZ[\\]^_`az{|}~\x7f\x80\xff'

METHODS = (b"GET",) * 14 + (b"HEAD",) * 4
SENDING_METHODS = (b"POST", b"POST", b"POST", b"PUT", b"PATCH", b"DELETE")
ODD_METHODS = (b"POST", b"PUT", b"OPTIONS", b"DELETE", b"TRACE", b"get", b"GETS", b"HEADS", b"BREW", b"G\tT", b"")

ODD_TARGETS = (
    b"/missing", b"/dir", b"/dir/?q", b"/dir/../small.txt", b"/%73mall.txt", b"//small.txt", b"/./small.txt",
    b"/small.txt?x=1", b"/small.txt#part", b"/../../etc/passwd", b"/a b.html", b"/%zz", b"/%00", b"/%2e%2e/small.txt",
    b"http://test/small.txt", b"http://test", b"HTTPS://test:443/dir/", b"http:///small.txt", b"*", b"small.txt", b"",
    b"/.hidden", b"/.well-known/known", b"/small.txt/", b"/SMALL.TXT", b"/\xc3\xa4", b"/small.txt\x7f", b"/\"", b"/\\",
    b"/" + b"long" * 2500, b"/404.html", b"/large.bin?",
)  # fmt: skip

QUERIES = (b"v=42", b"", b"a=b&c=%2F", b"?", b"#", b"/../x", b"x" * 300)

HOSTS = (b"test", b"test:8080", b"127.0.0.1", b"[::1]:80", b"EXAMPLE.com", b"", b"a.b-c_d~e", b"%41", b"a,b", b"test:")
ODD_HOSTS = (b"te st", b"test:99999", b"[::1", b"[::g]", b"user@test", b"test/", b"test\x80", b":80", b"a%4")

CODINGS = (b"gzip", b"br", b"zstd", b"identity", b"*", b"deflate", b"x-gzip", b"GZIP", b"compress", b"")
WEIGHTS = (b"", b"", b"", b";q=1", b";q=0", b";q=0.5", b"; q=0.001", b" ;q=1.000", b";Q=0.2", b";q=2", b";q=.5", b";q=")
USUAL_ACCEPTS = (b"gzip, deflate, br", b"gzip, deflate, br, zstd", b"gzip", b"identity", b"", b"br;q=1.0, gzip;q=0.8")

CONNECTIONS = (
    b"keep-alive",
    b"Keep-Alive",
    b"close",
    b"CLOSE",
    b"keep-alive, Upgrade",
    b"close, keep-alive",
    b"te",
    b"",
)

BROWSER: tuple[Field, ...] = (
    (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    (b"Accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"Accept-Language", b"en-US,en;q=0.5"),
    (b"Referer", b"http://test/index.html"),
    (b"DNT", b"1"),
    (b"Upgrade-Insecure-Requests", b"1"),
    (b"Sec-Fetch-Dest", b"document"),
    (b"Sec-Fetch-Mode", b"navigate"),
    (b"Pragma", b"no-cache"),
    (b"X-Forwarded-For", b"192.0.2.7, 198.51.100.1"),
    (b"Priority", b"u=0, i"),
)
ODD_RANGES = (
    b"bytes=0-0,3-4", b"bytes=9-1", b"lines=1-2", b"bytes=", b"Bytes=0-9", b"bytes= 0-9 ", b"bytes=0-9,", b"bytes=-0",
    b"bytes=0 -9", b"bytes=-", b"bytes=00000000000000000000007-8", b"bytes=0-99999999999999999999", b"bytes =0-9",
)  # fmt: skip
# The second is `engines.make_site`'s, with its neighbours.
DATES = (
    b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sun, 09 Sep 2001 01:46:40 GMT", b"Sun, 09 Sep 2001 01:46:39 GMT",
    b"Sun, 09 Sep 2001 01:46:41 GMT", b"Wed, 09 Sep 2026 00:00:00 GMT",
)  # fmt: skip
ODD_DATES = (
    b"Sunday, 09-Sep-01 01:46:40 GMT", b"Sun Sep  9 01:46:40 2001", b"yesterday", b"", b"Sun, 09 Sep 2001 24:46:40 GMT",
    b"Sun, 31 Sep 2001 01:46:40 GMT", b"sun, 09 Sep 2001 01:46:40 GMT", b"Mon, 09 Sep 2001 01:46:40 GMT", b"*",
)  # fmt: skip


class Maker:
    """Makes requests for `targets`, whose entity tags are among `tags`; `mischief` is the chance of an odd choice, of
    which a request has about twenty, `absent` that of a target that leads nowhere, `sends` that of a method that has a
    body."""

    def __init__(
        self,
        rng: random.Random,
        targets: Sequence[bytes],
        tags: Sequence[bytes] = (b'"none"',),
        mischief: float = 0.01,
        absent: float = 0.0,
        sends: float = 0.0,
    ) -> None:
        self.rng = rng
        self.targets = targets
        self.tags = tags
        self.mischief = mischief
        self.absent = absent
        self.sends = sends

    def odd(self) -> bool:
        """Whether the next choice is an odd one."""
        return self.rng.random() < self.mischief

    def stream(self, count: int) -> bytes:
        """A pipeline of `count` requests, some of them spoilt."""
        made = [self.request() for _ in range(count)]
        return b"".join(self.spoil(one) if self.odd() else one for one in made)

    def pieces(self, data: bytes) -> list[bytes]:
        """`data` as it is, or cut at random offsets."""
        if not data or self.rng.random() < 0.6:
            return [data]
        cuts = sorted(self.rng.randrange(len(data)) for _ in range(self.rng.randint(1, 4)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]

    def request(self) -> bytes:
        """One request with its body."""
        rng = self.rng
        method = rng.choice(ODD_METHODS) if self.odd() else rng.choice(METHODS)
        if self.sends and rng.random() < self.sends:
            method = rng.choice(SENDING_METHODS)
        target = rng.choice(ODD_TARGETS) if self.odd() else self.target()
        if self.absent and rng.random() < self.absent:
            target = self.absent_target()
            target = self.absolute(target) if rng.random() < 0.05 else target
        version = b"HTTP/1.0" if rng.random() < 0.05 else b"HTTP/1.1"
        if self.odd():
            version = rng.choice((b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/0.9", b"HTTP/1.10", b"HTTP/1.", b""))
        fields = self.fields(version)
        body = b""
        if method not in (b"GET", b"HEAD") or self.odd():
            framing, body = self.body()
            fields += framing
            rng.shuffle(fields)
        lines = b"".join(self.line(name, value) for name, value in fields)
        space = rng.choice((b"  ", b"\t", b"")) if self.odd() else b" "
        return method + space + target + b" " + version + b"\r\n" + lines + b"\r\n" + body

    def absent_target(self) -> bytes:
        """A path that leads nowhere, nearly always, and is another one each time; some are not canonical."""
        rng = self.rng
        bits = SEGMENT_BITS if rng.random() < 0.3 else (b"a", b"B", b".env", b"-", b"%20")
        segments = [b"".join(rng.choices(bits, k=rng.randint(0, 3))) for _ in range(rng.randint(1, 3))]
        end = rng.choice((b"", b"/", b"?x", b"/%08x" % rng.getrandbits(32)))
        return b"/" + b"/".join(segments) + end

    def target(self) -> bytes:
        """A target, some with a query, which may be a new one, some in absolute-form."""
        rng = self.rng
        target = rng.choice(self.targets)
        if rng.random() < 0.2:
            target += b"?" + (rng.choice(QUERIES) if rng.random() < 0.5 else b"%x" % rng.getrandbits(64))
        return self.absolute(target) if rng.random() < 0.05 else target

    def absolute(self, target: bytes) -> bytes:
        """The same in absolute-form, of a host that there may be."""
        host = self.rng.choice((b"", b"te^st", b"a@test")) if self.odd() else self.host() or b"test"
        return self.rng.choice((b"http", b"HTTP", b"https")) + b"://" + host + target

    def host(self) -> bytes:
        """A Host's value, which may be a new one."""
        rng = self.rng
        if self.odd():
            return rng.choice(ODD_HOSTS)
        return rng.choice(HOSTS) if rng.random() < 0.8 else b"%x.test:%d" % (rng.getrandbits(64), rng.getrandbits(16))

    def fields(self, version: bytes) -> list[Field]:
        """The fields of a head, in any order, some twice or missing."""
        rng = self.rng
        fields: list[Field] = []
        if version != b"HTTP/1.0" or rng.random() < 0.5:
            fields.append((b"Host", self.host()))
        if rng.random() < 0.5:
            fields += rng.sample(BROWSER, rng.randint(1, len(BROWSER)))
            fields.append((b"Cookie", b"id=%032x" % rng.getrandbits(128)))
        if rng.random() < 0.5:
            fields.append((b"Accept-Encoding", self.accept()))
        if rng.random() < 0.2:
            fields.append((b"Connection", rng.choice(CONNECTIONS[:2] if rng.random() < 0.8 else CONNECTIONS)))
        if rng.random() < 0.25:
            fields.append((b"If-None-Match", self.none_match()))
        fields += self.conditions()
        fields += self.rare_fields()
        rng.shuffle(fields)
        if fields and self.odd():
            fields.append(rng.choice(fields))
        if fields and self.odd():
            fields.pop(rng.randrange(len(fields)))
        return fields

    def conditions(self) -> list[Field]:
        """Ranges, and conditions beside If-None-Match."""
        rng = self.rng
        fields: list[Field] = []
        if rng.random() < 0.15:
            fields.append((b"Range", rng.choice(ODD_RANGES) if self.odd() else self.range()))
        if rng.random() < (0.3 if fields else 0.02):
            fields.append((b"If-Range", self.date() if rng.random() < 0.4 else self.none_match()))
        if rng.random() < 0.05:
            fields.append((b"If-Match", self.none_match()))
        fields += [
            (name, self.date()) for name in (b"If-Modified-Since", b"If-Unmodified-Since") if rng.random() < 0.08
        ]
        return fields

    def range(self) -> bytes:
        """A Range value of one range: closed, open or a suffix, short or long, some behind the end."""
        rng = self.rng
        first, length = rng.randrange(rng.choice((10, 1000, 100_000))), rng.choice((0, 9, 999, 20_000, 65_535))
        return rng.choice((b"bytes=%d-%d" % (first, first + length), b"bytes=%d-" % first, b"bytes=-%d" % (length + 1)))

    def date(self) -> bytes:
        """A date for a condition."""
        return self.rng.choice(ODD_DATES) if self.odd() else self.rng.choice(DATES)

    def rare_fields(self) -> list[Field]:
        """Fields that the fast lane leaves to the general one."""
        rng = self.rng
        values: tuple[tuple[bytes, Sequence[bytes]], ...] = (
            (b"Expect", (b"100-continue", b"100-Continue", b"the worst")),
            (b"Transfer-Encoding", (b"chunked", b"gzip, chunked", b"identity")),
            (b"Content-Length", (b"0", b"00", b"-1", b"0, 0")),
            (b"X-Empty", (b"",)),
            (b"X-Bytes", (b"\x80\xff", b"a\tb", b'"quoted \\" \x7f"', b"\x01")),
        )
        return [(name, rng.choice(choices)) for name, choices in values if self.odd()]

    def accept(self) -> bytes:
        """An Accept-Encoding value."""
        rng = self.rng
        if rng.random() < 0.6:
            return rng.choice(USUAL_ACCEPTS)
        members = [rng.choice(CODINGS) + rng.choice(WEIGHTS) for _ in range(rng.randint(1, 4))]
        return rng.choice((b", ", b",", b" , ")).join(members)

    def none_match(self) -> bytes:
        """An If-None-Match value; others are made like it."""
        rng = self.rng
        tag = rng.choice(self.tags)
        if rng.random() < 0.7:
            return rng.choice((tag, tag, b"W/" + tag, b'"other"'))
        odd = (
            b"*",
            tag.strip(b'"'),
            b"w/" + tag,
            tag[:-1],
            b"",
            b'""',
            b'W/""',
            b'"',
            b'"a b"',
            b'"a"b"',
            tag + b",",
            b'"a" , ' + tag,
        )
        return rng.choice(odd)

    def body(self) -> tuple[list[Field], bytes]:
        """Framing fields and the body that belongs to them, or does not."""
        rng = self.rng
        content = rng.randbytes(rng.choice((0, 1, 5, 700)))
        if rng.random() < 0.2:  # what would be a request, were the body's end misread
            content = rng.choice((b"", b"0\r\n\r\n", b"x")) + b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"
        if rng.random() < (0.9 if self.sends else 0.5):
            return [(b"Content-Length", b"%d" % (len(content) + (self.odd() and 1)))], content
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if content else b"0\r\nTrailer: x\r\n\r\n"
        return [(b"Transfer-Encoding", b"chunked")], chunks

    def line(self, name: bytes, value: bytes) -> bytes:
        """A field line with the freedoms that the grammar leaves, and some that it does not."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.1:
            name = name.lower()
        elif kind < 0.15:
            name = name.swapcase()
        before, behind = b" ", b""
        if rng.random() < 0.1:
            before, behind = rng.choice((b"", b"\t ", b"  ")), rng.choice((b"", b" ", b"\t"))
        if self.odd():
            name = rng.choice((name + b" ", name + b"\t", b" " + name, b"", name[:-1], name + b"\x80"))
        end = rng.choice((b"\n", b"\r", b"\r\n\r", b"\r\n ")) if self.odd() else b"\r\n"
        return name + b":" + before + value + behind + end

    def spoil(self, data: bytes) -> bytes:
        """`data` with one to three random accidents."""
        rng = self.rng
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data) + 1)
            to = min(len(data), at + rng.randint(1, 12))
            byte = bytes((rng.choice(TELLING_BYTES) if rng.random() < 0.8 else rng.randrange(256),))
            match rng.randrange(7):
                case 0:
                    data = data[:at] + byte + data[at + 1 :]
                case 1:
                    data = data[:at] + byte + data[at:]
                case 2:
                    data = data[:at] + data[to:]
                case 3:
                    data = data[:to] + data[at:]
                case 4:
                    data = data.replace(b"\r\n", rng.choice((b"\n", b"\r", b"\r\n\r\n", b"\r\r\n")), rng.randint(1, 3))
                case 5:
                    data = data[:at] + byte * rng.choice((2, 100, 2000)) + data[at:]
                case _:
                    data = data[:at]
        return data
