"""zcserve.config.slips: what people write that is no TOML, and what they are told: where, what, and what to write."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest

from zcserve.config.slips import SHOWN_MAX, Found, slip_in


def told(text: str) -> Found:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    return slip_in(text, str(caught.value))


IN_BRACES = "a name with other signs than letters, digits, - and _ stands in quotes"

SLIPS = [
    # texts without quotes, and with those of a word processor
    ("port = 1\nroot = www", "2:8", """ 'www' has no quotes; a text stands in quotes: "www" """),
    ("root = /srv/www  # here", "1:8", """ '/srv/www' has no quotes; a text stands in quotes: "/srv/www" """),
    ('hosts = ["b", a.example]', "1:15", """ 'a.example' has no quotes; a text stands in quotes: "a.example" """),
    (
        "root = \u201cwww\u201d",
        "1:8",
        """ \u201c (U+201C) is no quote of TOML; write " or ' before and behind the text """,
    ),
    ("root = `www`", "1:8", " ` (U+0060) is no quote of TOML"),
    ('root =\u00a0"www"', "1:7", " U+00A0 looks like a blank, and is none"),
    (
        "head_timeout = 20s",
        "1:16",
        """ a number with something behind it is a text, and stands in quotes; write "20s" """,
    ),
    ("memory = 70%", "1:10", """ write "70%" """),
    # other words for a value
    ("spa = True", "1:7", " 'True': a switch is true or false, in small letters; write true"),
    ("spa = off", "1:7", " write false"),
    ("root = null", "1:8", " 'null': there is no value for nothing; take the line out"),
    ("root =", "1:7", " the value is missing"),
    ("root = $HOME/www", "1:8", " variables are not filled in; write the value itself"),
    ("port = 08080", "1:8", " a number has no zeros in front; write 8080"),
    ("slab_bytes = 1,000", "1:14", " a number has no commas; write it without"),
    ('hosts = ("a", "b")', "1:9", """ a list stands in square brackets; write ["a", "b"] """),
    # signs between key and value, and none
    ('root: "www"', "1:5", """ : stands where = belongs; write root = "www" """),
    ("root: www", "1:5", """ : stands where = belongs; write root = "www" """),
    ('"root": "www",', "1:7", """ : stands where = belongs; write root = "www" """),
    ('root => "www"', "1:7", " one = stands between a key and its value"),
    ("root /srv/www;", "1:5", """ there is no = behind the key; write root = "/srv/www" """),
    ("--root www", "1:7", """ there is no = behind the key; write root = "www" """),
    ("head timeout = 1", "1:1", " a key has no blanks; write head_timeout ="),
    ("spa", "1:1", " 'spa' has no value; write spa = ..."),
    ("server {\n  root = 1\n}", "1:1", " a block begins with its name in brackets; write [server], and no braces"),
    ("<VirtualHost *:80>", "1:1", " '<VirtualHost *:80>' is no TOML; write tables as [NAME]"),
    ("gr\u00f6\u00dfe = 1", "1:1", " a key has the letters A to Z, digits, - and _, or stands in quotes"),
    # what stands behind a value
    ('root = "a";', "1:11", " nothing stands behind a value; take the ; away"),
    ('root = "a",', "1:11", " nothing stands behind a value; take the , away"),
    ('root = "a" port = 1', "1:12", " each key stands in a line of its own; begin a new line here"),
    ('pin = "a" "b"', "1:11", " there are two values; write several in square brackets"),
    ('hosts = "a"]', "1:12", " ] closes what was not opened"),
    # comments
    ("// a\nport = 1", "1:1", " // begins no comment; write #"),
    ("; a", "1:1", " ; begins no comment; write #"),
    ("port = 1 // a", "1:10", " // begins no comment; write #"),
    # texts, and what they hold
    (
        'pin = ["a",\n  "C:\\www"]',
        "2:6",
        " a backslash in double quotes begins an escape, and \\w is none; write two backslashes",
    ),
    (
        'root = "C:\\"\n',
        "1:11",
        """ the text does not end in this line: \\" is a quote in it; write two backslashes, or """,
    ),
    ('root = "www\nport = 1', "1:8", """ the text that begins here does not end in this line; write " behind it"""),
    ("root = \"www'", "1:8", """ ' does not end what " begins; write " behind it"""),
    ('root = """www\nport = 1', "1:8", """ the text that begins here has no end; write \"\"\" behind it"""),
    ('root = "a\x01"', "1:10", " U+0001 is a control character, which no TOML file has; take it away"),
    ("port = 1  # a\x02", "1:14", " U+0002 is a control character"),
    # brackets
    ('port = 1\nhosts = ["a",\n  "b"\nroot = "x"', "2:9", " the list that begins here has no end; write ] behind"),
    ('hosts = [\n  "a"\n  "b"\n]', "3:3", " a comma is missing here; write , between two values, ] behind the last"),
    ('hosts = ["a",\n  "b"\n\n[[rules]]\npath = 1', "1:9", " the list that begins here has no end; write ] behind"),
    ('hosts = [\n"b",\n[sites.a]  # x', "1:9", " the list that begins here has no end; write ] behind"),
    ('hosts = ["a"', "1:9", " the list that begins here has no end"),
    ('a = { b = "1",\n  c = "2" }', "1:5", " the table in braces that begins here does not end in its line"),
    ('a = { b = "1", }', "1:16", " no comma stands before }; take it away"),
    ('a = { b: "1" }', "1:8", " : stands where = belongs; write name = value"),
    ('a = { b = "1" c = "2" }', "1:15", " a comma is missing here; write , between two values, } behind the last"),
    ('a = { /x = "1" }', "1:7", f" {IN_BRACES}"),
    ('index = {"a", "b"}', "1:13", " there is no = behind the name; write name = value; a list stands in [ ]"),
    # headers
    ("[[rules]\npath = 1", "1:1", " as many brackets close as open, with nothing between them; write [[rules]]"),
    ("[sites.a", "1:1", " write [sites.a]"),
    (" [ [rules] ]", "1:2", " write [[rules]]"),
    ("[]", "1:1", " a table has a name"),
    ("[sites.]", "1:8", " a name stands before and behind each dot"),
    ("[sites.my blog]", "1:11", f"""  {IN_BRACES}; such as [sites."my blog"]"""),
    ("[sites.*.example.org]", "1:8", """ such as [sites."*.example.org"] """),
    # what stands twice
    ("root = 1\nport = 1\nroot = [\n  2,\n]\n", "3:1", " root stands at 1:1 already; take one of them away"),
    ("[a]\nb = { c = 1, c = 2 }", "2:14", " c stands at 2:7 already"),
    ("[sites.a]\n[sites.b]\n[sites.a]", "3:1", " the table [sites.a] begins at 1:1 already; put both into one"),
    (
        "[rules]\na = 1\n[rules]\n",
        "3:1",
        " rules stands at 1:1 already; each table of a list begins with two brackets: ",
    ),
    (
        "[rules]\na = 1\n[[rules]]\n",
        "3:1",
        " rules stands at 1:1 already, and not in the same way; each table of a list ",
    ),
    (
        "[[rules]]\na = 1\n[rules]\n",
        "3:1",
        " rules stands at 1:1 already, and not in the same way; each table of a list ",
    ),
    ("[sites.a]\n[[sites.a.rules]]\n[sites.a.rules]\n", "3:1", " two brackets: [[sites.a.rules]]"),
    ("root = 1\nroot.b = 1", "2:1", " what this names has a value already; look for the same name above"),
]


@pytest.mark.parametrize(("text", "where", "what"), SLIPS, ids=[text for text, _, _ in SLIPS])
def test_a_slip_is_told_where_it_begins_with_what_to_write(text: str, where: str, what: str) -> None:
    found = told(text)
    assert str(found.place) == where
    assert what.strip() in found.text


def test_the_line_is_shown_with_a_mark_below_the_place() -> None:
    assert told("port = 1\n\tspa = True  # on\r\n").excerpt == (" spa = True  # on", "       ^")
    line, mark = told(f"pin = [{'1, ' * 100}www]").excerpt
    assert (len(line), line[mark.index("^") :]) == (SHOWN_MAX // 2 + 3, "www]")
    assert told('root = "www').excerpt == ('root = "www', "       ^")


@pytest.mark.parametrize(
    "text",
    ["users = { bob = $2y$12$secret }", "users = { bob = secret }", "a = $argon2id$secret", "bob: $2y$12$secret"],
)
def test_what_a_password_is_checked_by_is_not_shown(text: str) -> None:
    found = told(f"[[auth]]\n{text}")
    assert found.excerpt == ()
    assert "$" not in found.text


BASE = """\
hosts = ["a.example", 'b']  # names
[[rules]]
path = "/a/**"
set = { X-A = "b", "X B" = ["c"] }
[sites.blog]
root = \"\"\"x
y\"\"\"
index = [
  "a",
]
[[sites.blog.rules]]
path = 'c\\d'
"""


def spoiled() -> Iterator[str]:
    """Texts with one character more, one less, or the end missing."""
    signs = ['"', "'", "[", "]", "{", ",", "=", "\\", "\n", "\u201c", "\x01"]
    for at in range(len(BASE)):
        yield BASE[:at]
        yield BASE[:at] + BASE[at + 1 :]
        yield from (BASE[:at] + sign + BASE[at:] for sign in signs)


def test_whatever_is_spoiled_there_is_a_place_and_a_line_of_words() -> None:
    refused = 0
    for text in spoiled():
        try:
            tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = slip_in(text, str(error))
            line = text.split("\n")[found.place.line - 1]
            assert 1 <= found.place.column <= len(line) + 1, text
            assert found.text.isprintable(), text
            assert "; " in found.text, text
            refused += 1
    assert refused > 1000
