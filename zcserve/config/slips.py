"""What is wrong with a TOML file that tomllib refuses, in words that help: where it begins, what stands there, what to
write.

tomllib says where it cannot go on ("Unclosed array" in the line behind the list), and not where the slip is. Up to
there the file is sound: so it is read once more, for its brackets and quotes, and what stands at the place is compared
with what people write that know YAML, JSON, Python, nginx or a word processor. What is none of these is told in
tomllib's own words. Nothing here decides whether a file is TOML.

A line may hold what a password is checked by: then it is not shown.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from zcserve.config.places import TEXT, Place, places_from, repeated
from zcserve.config.refusal import shown
from zcserve.config.table import TABLES
from zcserve.config.tables import tables_of

# A longer line is cut where it is shown.
SHOWN_MAX = 100

_SECRET = re.compile(r"\$[0-9a-z-]+\$|\busers\b")
_QUOTES = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b«»`\u00b4"
_BLANKS = "\u00a0\u2002\u2003\u2007\u2009\u202f\u200b\u3000\ufeff"
_COMMENT = re.compile(r"//|/\*|;|--|\u2014|\u2013|<!--|%|\brem\b")
_KEY = r"(?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')"
_KEYS = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_TOKEN = re.compile(r"[^,\]}#\n]*")
_REST = re.compile(r"[^#\n]*")
# Tables of which there may be several.
_LISTS = frozenset(name for name, read in TABLES.items() if read is tables_of)


class Slip(NamedTuple):
    """What is wrong, and what to do. `at` is where it begins, in characters from the beginning of the text."""

    at: int
    told: str
    todo: str


class Found(NamedTuple):
    """A slip as it is told: `excerpt` has the line and a mark below the place, and is empty where that is secret."""

    place: Place
    text: str
    excerpt: tuple[str, ...]


def slip_in(text: str, message: str) -> Found:
    """What is wrong with a text, of which tomllib says `message` ("Invalid value (at line 1, column 8)")."""
    problem, _, place = message.partition(" (at ")
    numbers = re.match(r"line (\d+), column (\d+)", place)
    lines = text.split("\n")
    at = len(text)
    if numbers is not None:
        line, column = int(numbers[1]), int(numbers[2])
        at = min(sum(len(one) + 1 for one in lines[: line - 1]) + column - 1, len(text))
    slip = _Reader(text, at, says_twice=problem.startswith(("Cannot", "Duplicate"))).read() or Slip(
        at, f"{problem[:1].lower()}{problem[1:]}", "accepted: a TOML file"
    )
    (begins,) = places_from(text, [slip.at])
    words = "".join(sign if sign.isprintable() else "?" for sign in f"{slip.told}; {slip.todo}")
    return Found(begins, words, _excerpt(lines[begins.line - 1], begins.column))


def _excerpt(line: str, column: int) -> tuple[str, ...]:
    """The line, and a mark below a column."""
    if _SECRET.search(line):
        return ()
    first = max(0, column - SHOWN_MAX // 2)
    piece = line.rstrip()[first : first + SHOWN_MAX].replace("\t", " ")
    return piece, f"{' ' * (column - 1 - first)}^"


def _quoted(token: str) -> str:
    """A text as it is to be written."""
    return f"'{token}'" if '"' in token or "\\" in token else f'"{token}"'


# --- what stands where a value is expected, or behind one -----------------------------------------------------------

_ODD_NAME = "a name with other signs than letters, digits, - and _ stands in quotes"
_ENDLESS_LIST = "the list that begins here has no end"
_SWITCH = "a switch is true or false, in small letters"
# What a token matches in full, what that means, and what to write: {0} is the token, {1} its group.
_VALUES: tuple[tuple[str, str, str], ...] = (
    (r"", "the value is missing", "write it behind the =, or take the line out"),
    (r"(?i:true|yes|on|enabled?)", f"{{0}}: {_SWITCH}", "write true"),
    (r"(?i:false|no|off|disabled?)", f"{{0}}: {_SWITCH}", "write false"),
    (r"(?i:none|null|nil|undefined|~)", "{0}: there is no value for nothing", "take the line out"),
    (r"[+-]?0+([0-9]+)", "a number has no zeros in front", "write {1}"),
    (r"[0-9]{1,3}(?:,[0-9]{3})+", "a number has no commas", "write it without"),
    (r"\$\{?[A-Za-z_].*", "variables are not filled in", "write the value itself, in quotes"),
    (r"[=>:].*", "one = stands between a key and its value", "take the other sign away"),
    (r"\(.*", "a list stands in square brackets", 'write ["a", "b"]'),
    (r"<<.*", "there are no such texts of several lines", 'write """ before and behind'),
    (r"([0-9].*)", "a number with something behind it is a text, and stands in quotes", "write {2}"),
    (r"[{]", "a table in braces stands in one line", "close it with }}"),
)
_BEHIND: tuple[tuple[str, str, str], ...] = (
    (r"[,;].*", "nothing stands behind a value", "take the {first} away"),
    (rf"{_KEYS}\s*=.*", "each key stands in a line of its own", "begin a new line here"),
    (r"[]})].*", "{first} closes what was not opened", "take it away, or open it before the value"),
    (r"[\"'].*", "there are two values", "write several in square brackets, with commas between them"),
    (r"[+&.].*", "texts cannot be put together", "write one text"),
    (r".*", "nothing stands behind a value", "begin a new line here, or put all of it in quotes"),
)


def _of_value(at: int, token: str) -> Slip:
    """Of what stands where a value is expected."""
    token = token.strip()
    if token[:1] and token[0] in _QUOTES:
        return _of_sign(at, token[0])
    for pattern, told, todo in _VALUES:
        if (match := re.fullmatch(pattern, token)) is not None:
            own = match[1] if match.re.groups else ""
            return Slip(at, told.format(shown(token)), todo.format(token, own, _quoted(token)))
    if _SECRET.search(token):
        return Slip(at, "a text stands in quotes", "write '...'")
    return Slip(at, f"{shown(token)} has no quotes", f"a text stands in quotes: {_quoted(token)}")


def _of_sign(at: int, sign: str) -> Slip:
    """Of a sign that looks like another one."""
    if sign in _BLANKS:
        return Slip(at, f"U+{ord(sign):04X} looks like a blank, and is none", "write a plain blank, or take it away")
    return Slip(at, f"{sign} (U+{ord(sign):04X}) is no quote of TOML", "write \" or ' before and behind the text")


class _Reader:
    """Finds the slip in a text that is sound up to a place.

    brackets  those that are open there: which, and where
    quote     where a text begins that has no end, or in which the place lies; -1: there is none
    """

    def __init__(self, text: str, at: int, *, says_twice: bool) -> None:
        """`says_twice`: a statement ends at the place whose key or table has a value already."""
        self._text = text
        self._at = at
        self._says_twice = says_twice
        self._brackets: list[tuple[str, int]] = []
        self._quote = -1
        self._is_cut = False  # the text that begins at the quote has no end
        self._scan()
        self._begin = text.rfind("\n", 0, at) + 1
        end = text.find("\n", at)
        self._rest = text[at : end if end >= 0 else len(text)].rstrip("\r")
        self._before = text[self._begin : at]

    def _scan(self) -> None:
        text, at = self._text, 0
        while at < self._at:
            sign = text[at]
            if sign in "\"'":
                found = TEXT.match(text, at)
                is_cut = found is None or (text.startswith(sign * 3, at) and found.end() == at + 2)
                if found is None or is_cut or found.end() > self._at:
                    self._quote, self._is_cut = at, is_cut
                    return
                at = found.end()
            elif sign == "#":
                at = (text.find("\n", at) + 1) or len(text)
            else:
                if sign in "[{":
                    self._brackets.append((sign, at))
                elif sign in "]}" and self._brackets:
                    self._brackets.pop()
                at += 1

    def read(self) -> Slip | None:
        """The slip; None: it is none that is known."""
        sign = self._text[self._at : self._at + 1]
        if sign and not sign.isprintable() and sign not in f"\n\t{_BLANKS}":
            return Slip(self._at, f"U+{ord(sign):04X} is a control character, which no TOML file has", "take it away")
        if self._quote >= 0:
            return self._of_text()
        if self._says_twice:
            return self._of_what_stands_twice()
        if self._rest[:1] and self._rest[0] in _BLANKS + _QUOTES:
            return _of_sign(self._at, self._rest[0])
        line = self._before + self._rest
        above = [opened for _, opened in self._brackets if opened < self._begin]
        if above and re.fullmatch(r"\s*\[\[?[\w.-]+\]\]?\s*(?:#.*)?", line):
            return Slip(above[-1], _ENDLESS_LIST, "write ] behind its last value")
        if line.lstrip().startswith("["):
            is_header = len(self._brackets) == len(self._before.strip()) - len(self._before.strip().lstrip("["))
            if is_header or re.match(r"\s*\[\[?[^],=\"]*\]*\s*$", line):
                return self._of_header(line)
        found = re.search(r"=\s*([0-9+.-][\w+.:-]*)?$", self._before)
        if found is not None and not (self._brackets and self._brackets[-1][0] == "["):
            begin = self._begin + (found.start(1) if found[1] else found.end())
            token = (_TOKEN if self._brackets else _REST).match(self._text, begin)
            assert token is not None
            return _of_value(begin, token[0])
        if self._brackets:
            return self._of_brackets()
        return self._of_line(line)

    # --- one way each in which it may be wrong ----------------------------------------------------------------

    def _of_text(self) -> Slip:
        """The place is in a text, or a text has no end."""
        begin, sign = self._quote, self._text[self._quote]
        line = self._text[begin : (self._text.find("\n", begin) + 1) or len(self._text)].rstrip()
        escape = re.search(r"\\.?", line) if sign == '"' else None
        if escape is not None and (not self._is_cut or line.endswith('\\"')):
            told = f"a backslash in double quotes begins an escape, and {escape[0]} is none"
            if self._is_cut:
                told = 'the text does not end in this line: \\" is a quote in it'
            return Slip(begin + escape.start(), told, "write two backslashes, or take single quotes")
        if not self._is_cut:
            return Slip(self._at, "a text holds no such character", "take it away, or write it as \\uXXXX")
        if self._text.startswith(sign * 3, begin):
            return Slip(begin, "the text that begins here has no end", f"write {sign * 3} behind it")
        other = "'" if sign == '"' else '"'
        mixed = f"; {other} does not end what {sign} begins" if line.endswith(other) else ""
        return Slip(begin, f"the text that begins here does not end in this line{mixed}", f"write {sign} behind it")

    def _of_what_stands_twice(self) -> Slip:
        found = repeated(self._text[: self._at])
        if found is None:
            begin = self._begin + len(self._before) - len(self._before.lstrip())
            return Slip(begin, "what this names has a value already", "look for the same name above")
        path, first, at, is_list = found
        name = ".".join(str(step) for step in path if isinstance(step, str))
        is_header = self._text.startswith("[", at)
        if is_list or (is_header and path[-1] in _LISTS):
            told = f"{name} stands at {first} already" + (", and not in the same way" if is_list else "")
            return Slip(at, told, f"each table of a list begins with two brackets: [[{name}]]")
        if is_header:
            return Slip(at, f"the table [{name}] begins at {first} already", "put both into one")
        return Slip(at, f"{path[-1]} stands at {first} already", "take one of them away")

    def _of_header(self, line: str) -> Slip:
        """A line that begins with a bracket."""
        begin = self._begin + len(line) - len(line.lstrip())
        name = re.sub(r"[][\s]*(.*?)[][\s]*(?:#.*)?$", r"\1", line.strip())
        if not name:
            return Slip(begin, "a table has a name", "write [sites.blog] or [[rules]]")
        if re.fullmatch(_KEYS, name):
            whole = f"[[{name}]]" if name.rpartition(".")[2] in _LISTS else f"[{name}]"
            return Slip(begin, "as many brackets close as open, with nothing between them", f"write {whole}")
        if not all(part.strip() for part in name.split(".")):
            return Slip(
                self._at, "a name stands before and behind each dot", "write [sites.blog] or [[sites.blog.rules]]"
            )
        first, dot, last = name.partition(".")
        example = f'[{first}."{last}"]' if dot and last else f'["{name}"]'
        return Slip(self._at, _ODD_NAME, f"such as {example}" if '"' not in name else "close the quotes")

    def _of_brackets(self) -> Slip | None:
        """Within a list or a table in braces."""
        sign, opened = self._brackets[-1]
        closing = "]" if sign == "[" else "}"
        kind = "list" if sign == "[" else "table in braces"
        is_next = re.match(rf"\s*(?:{_KEYS}\s*=|\[)", self._rest) and not self._before.strip()
        if self._at >= len(self._text.rstrip()) or (sign == "[" and is_next):
            return Slip(opened, _ENDLESS_LIST.replace("list", kind), f"write {closing} behind its last value")
        behind = self._text[opened + 1 : self._at].rstrip()
        if sign == "{" and "\n" in self._text[opened : self._at + 1]:
            told = "the table in braces that begins here does not end in its line"
            return Slip(opened, told, "write all of it in one line, or as a table of its own: [NAME]")
        if sign == "{" and behind.endswith(",") and self._rest.startswith("}"):
            return Slip(self._at, "no comma stands before }", "take it away")
        if sign == "{" and self._rest.startswith(":"):
            return Slip(self._at, ": stands where = belongs", "write name = value")
        if sign == "{" and (behind.endswith(",") or not behind) and not re.match(_KEY, self._rest):
            return Slip(self._at, _ODD_NAME, 'write "..." =')
        if sign == "[" and (behind.endswith(",") or not behind):
            return _of_value(self._at, _TOKEN.match(self._text, self._at)[0])  # type: ignore[index]
        if sign == "{" and re.search(rf"(?:\{{|,)\s*{_KEYS}\s*$", self._text[opened : self._at]):
            return Slip(self._at, "there is no = behind the name", "write name = value; a list stands in [ ]")
        return Slip(self._at, "a comma is missing here", f"write , between two values, {closing} behind the last")

    def _of_line(self, line: str) -> Slip | None:
        """Of a statement that is neither a header nor ends in an open bracket."""
        begin = self._begin + len(line) - len(line.lstrip())
        text = line.strip()
        behind = self._rest.lstrip()
        if (comment := _COMMENT.match(text)) and (not text.startswith("--") or not re.match(r"--\w", text)):
            return Slip(begin, f"{comment[0]} begins no comment", "write #")
        if re.match(rf"{_KEYS}\s*=", text):
            at = self._at + len(self._rest) - len(behind)
            if (comment := _COMMENT.match(behind)) and comment[0] != ";":
                return Slip(at, f"{comment[0]} begins no comment", "write #")
            for pattern, told, todo in _BEHIND:
                if re.fullmatch(pattern, behind):
                    return Slip(at, told.format(first=behind[0]), todo.format(first=behind[0]))
            return None
        if found := re.match(rf"-*({_KEY})(?:\s*(:|=>|:=)\s*|\s+)(.*)", text):
            return self._of_pair(begin, found)
        if text.startswith(("<", "{", "}", "- ")):
            return Slip(begin, f"{shown(text[:20])} is no TOML", "write tables as [NAME], and in them NAME = VALUE")
        if found := re.fullmatch(_KEY, text):
            return Slip(begin, f"{shown(text)} has no value", f"write {text} = ...")
        if not text.isascii():
            return Slip(
                begin, "a key has the letters A to Z, digits, - and _, or stands in quotes", "take another word"
            )
        return Slip(begin, f"{shown(text[:40])} is no TOML", "write NAME = VALUE, [NAME] or # and a comment")

    def _of_pair(self, begin: int, found: re.Match[str]) -> Slip:
        """A key and a value without a =."""
        key, sign, value = found[1].strip("\"'"), found[2], found[3].rstrip(";, ")
        if not sign and (words := re.match(r"((?:[\w-]+\s+)*[\w-]+)\s*=", found[0])) is not None:
            return Slip(begin, "a key has no blanks", f"write {'_'.join(words[1].split())} =")
        if value.endswith("{") and sign != "=>":
            return Slip(begin, "a block begins with its name in brackets", f"write [{key}], and no braces")
        write = f"write {key} = {value if re.match(_LITERAL, value) else _quoted(value) if value else '...'}"
        if _SECRET.search(found[0]):
            write = f"write {key} = ..."
        if sign:
            return Slip(begin + found.start(2), f"{sign} stands where = belongs", write)
        return Slip(begin + found.end(1), "there is no = behind the key", write)


# What is a value as it stands.
_LITERAL = re.compile(r"[\"'\[{]|(?:true|false|[0-9]+)$")
