"""zcserve.rules.protected: which paths ask for a password, as it is written, and what their answers say."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.support.passwords import ALICE_BCRYPT, BOB_BCRYPT
from zcserve.config.tables import Source, tables_of
from zcserve.errors import UsageError
from zcserve.rules.book import Rulebook
from zcserve.rules.compiled import Rules
from zcserve.rules.globbed import GlobTable
from zcserve.rules.protected import NAME_BYTES_MAX, Protections, kept_private, written_protections
from zcserve.rules.rule import HeaderRule

pytest.importorskip("bcrypt")

USERS = f"users = {{ alice = '{ALICE_BCRYPT}' }}"


def read(*rules: str, root: str = "/srv/www") -> Protections:
    text = "".join(f"[[auth]]\n{rule}\n" for rule in rules)
    written = written_protections(tables_of(tomllib.loads(text)["auth"], ("auth",), Source("site.toml", text)), root)
    return Protections([one.protection(one.text()) for one in written])


def test_the_first_rule_that_matches_decides() -> None:
    some = read(
        "path = '/in/robots.txt'\nopen = true",
        f"path = '/in/b/**'\nrealm = 'B'\n{USERS}",
        f"path = '/in/'\nrealm = 'A'\n{USERS}",
    )
    realms = {key: rule.realm for key in (b"/in/x", b"/in/b/x", b"/in/", b"/in/a%20b") if (rule := some.of(key))}
    assert realms == {b"/in/x": "A", b"/in/b/x": "B", b"/in/": "A", b"/in/a%20b": "A"}
    assert some.of(b"/in/robots.txt") is None
    assert some.of(b"/out") is None
    assert some.of(b"/inn") is None


@pytest.mark.parametrize(
    ("glob", "asked", "others"),
    [
        ("/in/**", [b"/in", b"/in/", b"/in/a", b"/in/a/b.gz"], [b"/i", b"/inn/a", b"/a/in/"]),
        (
            "*.csv",
            [b"/a.csv", b"/x/a.csv", b"/a.csv.gz", b"/a.csv.br", b"/x/a.csv.zst.gz.gz"],
            [b"/a.gz", b"/a.csv.txt"],
        ),
        ("/secret.txt", [b"/secret.txt", b"/secret.txt.gz", b"/secret.txt.gz.br"], [b"/", b"/x/secret.txt"]),
        ("/x.gz/**", [b"/x.gz", b"/x.gz/", b"/x.gz/a"], [b"/x"]),
        ("/a b/*", [b"/a%20b", b"/a%20b/c"], [b"/a", b"/a%20b/c/d"]),
        ("/é/**", ["/é".encode(), b"/%C3%A9/x"], [b"/e/x"]),
    ],
)
def test_nothing_has_another_name_that_is_not_protected(glob: str, asked: list[bytes], others: list[bytes]) -> None:
    some = read(f"path = '{glob}'\n{USERS}")
    assert [key for key in asked if some.of(key) is None] == []
    assert [key for key in others if some.of(key) is not None] == []
    rules = Rules(protections=some)
    assert rules.has_answers
    assert rules.reads_requests
    if rules.first_segments is not None:
        assert {key.split(b"/")[1] for key in asked} - {"é".encode()} <= rules.first_segments


def test_a_rule_that_opens_is_of_that_very_path() -> None:
    some = read("path = ['*.css', '/dl/**']\nopen = true", f"path = '/**'\n{USERS}")
    assert [key for key in (b"/a.css", b"/dl/a.gz", b"/dl/") if some.of(key)] == []
    assert [key for key in (b"/a.css.gz", b"/dl", b"/a.css/") if not some.of(key)] == []
    assert not read("path = '/**'\nopen = true")


@pytest.mark.parametrize(
    ("opened", "free", "asked"),
    [
        ("/a.csv.gz", [], ["/a.csv", "/a.csv.gz", "/a.csv.br.gz", "/a.csv.gz.br"]),  # its content is the base's
        ("/a.csv.br", [], ["/a.csv.br.gz", "/a.csv.br", "/a.csv.br.gz.zst"]),
        ("/a.csv", ["/a.csv"], ["/a.csv.gz", "/a.cs", "/a.gz"]),  # by its own name the sibling asks
        ("/a.csv*", ["/a.csv", "/a.csv.gz", "/a.csv.br.gz"], ["/a.cs", "/a.cs.gz"]),
        ("/d", ["/d"], ["/d/", "/d/x", "/d.x"]),  # the redirect to the slash
        ("/d/", ["/d/", "/d/x", "/d/x.gz"], ["/d", "/d.gz"]),
    ],
)
def test_what_is_open_of_what_is_protected_tells_no_content_by_another_name(
    opened: str, free: list[str], asked: list[str]
) -> None:
    some = read(f"path = '{opened}'\nopen = true", f"path = '/**'\n{USERS}")
    assert [path for path in free if some.of(path.encode()) is not None] == []
    assert [path for path in asked if some.of(path.encode()) is None] == []


def test_a_rule_that_never_matches_is_told() -> None:
    some = read(
        f"path = '/in/'\n{USERS}",
        "path = '/in/robots.txt'\nopen = true",
        f"path = ['/in/a/*', '/out/*']\n{USERS}",
        f"path = ['/in/**', '/out/*']\n{USERS}",
    )
    never = [doubt for doubt in some.doubts if "never matches" in doubt]
    assert never == [
        f"site.toml:{line}:1: auth[{number}]: never matches: site.toml:1:1: auth[0] stands before it"
        for number, line in ((1, 4), (3, 10))
    ]


def test_a_path_that_protects_no_file_is_told() -> None:
    some = read(f"path = '/in/'\n{USERS}", f"path = ['/privat/**', '/in']\n{USERS}", "path = '/none'\nopen = true")
    told = "protects no file (/directory/** is all below a directory)"
    first, second = (
        f"site.toml:5:9: auth[1].path[0]: '/privat/**' {told}",
        f"site.toml:5:23: auth[1].path[1]: '/in' {told}",
    )
    assert list(some.idle([b"/in/a", b"/b"])) == [first, second]
    assert list(some.idle([b"/in/a", b"/privat/x.gz"])) == [second]
    assert list(some.idle([b"/in/a", b"/b"], heads=["/privat"])) == [second]


def test_a_slip_in_a_path_that_may_be_an_applications_is_told_where_a_file_is_much_like_it() -> None:
    some = read(f"path = ['/privat/**', '/api/**', '/in/**']\n{USERS}")
    keys = [b"/private/a", b"/in/a"]
    assert list(some.idle(keys, heads=["/"])) == []
    told = "'/privat/**' protects no file; did you mean '/private/**'? (an application may have the path)"
    assert list(some.doubtful(lambda: keys, ["/"])) == [f"site.toml:2:9: auth[0].path[0]: {told}"]
    assert list(some.doubtful(lambda: keys, ["/privat"])) == [f"site.toml:2:9: auth[0].path[0]: {told}"]
    assert list(some.doubtful(lambda: keys, ["/app"])) == []  # `idle` tells it
    assert list(some.doubtful(lambda: keys, [])) == []


def test_a_realm_stands_in_quotes() -> None:
    (rule,) = (one for one in [read(f"path = '/a'\nrealm = 'a \"b\\'\n{USERS}").of(b"/a")] if one)
    assert rule.challenge == rb'Basic realm="a \"b\\", charset="UTF-8"'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"path = '/a'\nuser = 1\n{USERS}", "site.toml:3:1: auth[0].user: unknown word 'user'; write users = "),
        (USERS, "site.toml:1:1: auth[0]: auth without a path"),
        ("path = '/a'", "auth without users; accepted: users_file"),
        ("path = '/a'\nusers = {}", "there is no user"),
        ("path = '/a'\nusers = 'x'", "site.toml:3:1: auth[0].users: it is a string; accepted: names and hashes"),
        ("path = '/a'\nusers = { bob = 'hunter2' }", "auth[0].users.bob: the user 'bob': plain text"),
        ("path = '/a'\nusers = { bob = 1 }", "the user 'bob': "),
        (f"path = '/a'\nopen = true\n{USERS}", "open to all, and there are users"),
        ("path = '/a'\nopen = 1", "accepted: true or false"),
        (f"path = '/a'\nrealm = 'é'\n{USERS}", "is no realm; accepted: a text of 1 to 100"),
        ("path = '/a'\nusers_file = '/nowhere/users'", ":3:1: auth[0].users_file: '/nowhere/users' cannot be read"),
        ("path = '/a'\nusers_file = '/srv/www/../www/.users'", "lies below '/srv/www', which is served"),
        (f"path = ''\n{USERS}", "site.toml:2:1: auth[0].path: '' is not a pattern"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_no_shared_cache_keeps_an_answer_whatever_rules_say() -> None:
    private = (b"Cache-Control", b"private")
    assert kept_private(()) == (private,)
    for value, kept in (
        (b"public, max-age=60", b"private, max-age=60"),
        (b"S-MaxAge=5, immutable", b"private, immutable"),
        (b"no-store", b"no-store"),
        (b"Private, max-age=1", b"Private, max-age=1"),
        (b"no-cache", b"private, no-cache"),
    ):
        value = value.replace(b"S-MaxAge", b"s-maxage")
        lines = ((b"X", b"y"), (b"cache-control", value), (b"CDN-Cache-Control", b"max-age=9"))
        assert kept_private(lines) == ((b"X", b"y"), (b"Cache-Control", kept))


def test_heads_of_protected_files_say_so_and_others_are_as_before() -> None:
    rules = Rules(
        [HeaderRule(("/**",), set=((b"X", b"y"),))], "max-age=9", protections=read(f"path = '/in/**'\n{USERS}")
    )
    assert dict(rules.fields_of(b"/in/a").lines) == {b"X": b"y", b"Cache-Control": b"private, max-age=9"}
    assert dict(rules.fields_of(b"/a").lines) == {b"X": b"y", b"Cache-Control": b"max-age=9"}
    (_, protection) = rules.effects_of(b"/in/a", of_file=True)
    assert protection.given == ((b"Cache-Control", b"private, max-age=9"),)
    bare = Rules(protections=read(f"path = '/in/**'\n{USERS}"))
    assert bare.fields_of(b"/in/a").lines == ((b"Cache-Control", b"private"),)
    assert bare.fields_of(b"/a").lines == ()
    assert rules.digest != Rules([HeaderRule(("/**",), set=((b"X", b"y"),))], "max-age=9").digest


def test_users_are_read_when_a_root_is_and_heads_do_not_depend_on_them(tmp_path: Path) -> None:
    from zcserve.config.table import Config

    (tmp_path / "www").mkdir()
    users = tmp_path / "users"
    users.write_text(f"alice:{ALICE_BCRYPT}\n")
    book = Rulebook(Config(root=tmp_path / "www", auth=({"path": "/**", "users_file": str(users)},)))
    assert "is quick to guess" in book.told[0]
    first = book.rules()
    assert book.rules() is first
    users.write_text(f"bob:{BOB_BCRYPT}\n")
    second = book.rules()
    assert second is not first
    assert second.digest == first.digest
    asks = [one.protection(b"/a") for one in (first, second)]
    assert [list(one.users or ()) for one in asks if one] == [[b"alice"], [b"bob"]]
    users.write_text("bob:x")
    for _ in range(2):
        with pytest.raises(UsageError, match="plain text"):
            book.rules()
    (tmp_path / "www" / "users").write_text("")
    users.unlink()
    users.symlink_to(tmp_path / "www" / "users")
    with pytest.raises(UsageError, match="which is served"):
        book.rules()


def test_a_sibling_of_siblings_is_protected_as_long_as_a_file_can_have_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    protections = read(f"path = '*.csv'\n{USERS}")
    asked: list[str] = []
    numbers = GlobTable.numbers

    def noted(self: GlobTable, path: str) -> tuple[int, ...]:
        asked.append(path)
        return numbers(self, path)

    monkeypatch.setattr(GlobTable, "numbers", noted)
    endings = b".gz" * ((NAME_BYTES_MAX - 5) // 3)
    for key in (b"/a.csv", b"/deep/er/a.csv", b"/a.csv.br.zst.gz", b"/deep/a.csv" + endings):
        assert protections.of(key) is not None, key
    assert protections.of(b"/a.txt" + endings) is None
    asked.clear()
    # A target has room for thousands, and each costs a look at the whole of it.
    assert protections.of(b"/a.csv" + b".gz" * 2600) is None
    assert len(asked) < 5
