"""zcserve.config.sites: the tables of sites in a file, and where what is wrong with them stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from zcserve.config.sites import configs_of
from zcserve.config.sources import load
from zcserve.config.table import Config
from zcserve.config.tables import tables_of
from zcserve.config.units import MIB, Share
from zcserve.errors import UsageError

FILE = """\
root = "www"
index = ["home.html"]
cache_control = "max-age=1"
servlets = "csp"
pin = ["*.css"]
unknown_host = "421"
hosts = ["example.org"]
port = 1

[sites.blog]
hosts = ["blog.example.org", "*.Blog.example.org"]
root = "blog"
charset = "latin-1"
keep_for = "1m"
memory_min = "10%"
memory_max = "64M"

[sites.app]
hosts = "app.example.org"
root = "app"
index = "a.html"
mount = ["/=app:app"]
pin = []
"""


def read(directory: Path, text: str) -> Config:
    path = directory / "web.toml"
    path.write_text(text)
    return load({}, {}, path)


def test_what_a_site_does_not_say_is_the_servers_but_what_is_served(tmp_path: Path) -> None:
    config = read(tmp_path, FILE)
    default, blog, app = configs_of(config).values()
    assert list(configs_of(config)) == ["default", "blog", "app"]
    assert [one.hosts for one in (default, blog, app)] == [
        ("example.org",),
        ("blog.example.org", "*.blog.example.org"),
        ("app.example.org",),
    ]
    assert [one.directory for one in (default, blog, app)] == [Path("www"), Path("blog"), Path("app")]
    assert [one.index for one in (default, blog, app)] == [("home.html",), ("home.html",), ("a.html",)]
    assert [one.charset for one in (default, blog, app)] == ["utf-8", "latin-1", "utf-8"]
    assert [one.cache_control for one in (default, blog, app)] == ["max-age=1"] * 3
    assert [one.pin for one in (default, blog, app)] == [("*.css",), ("*.css",), ()]
    assert [one.servlets for one in (default, blog, app)] == ["csp", "", ""]
    assert [one.mount for one in (default, blog, app)] == [(), (), ("/=app:app",)]
    assert [one.keep_for_s for one in (default, blog, app)] == [600, 60, 600]
    assert {one.port for one in (default, blog, app)} == {1}


def test_a_site_has_rules_of_its_own_and_none_of_the_servers(tmp_path: Path) -> None:
    rules = '[[rules]]\npath = "/a"\n[[sites.a.rules]]\npath = "/b"\n'
    configs = configs_of(read(tmp_path, 'root = "w"\n' + A + B + rules))
    paths = {name: [rule["path"] for rule in one.rules] for name, one in configs.items()}
    assert paths == {"default": ["/a"], "a": ["/b"], "b": []}


def test_a_site_logs_where_the_server_does_to_a_file_of_its_own_or_nowhere(tmp_path: Path) -> None:
    own = A + 'access_log = "a.log"\n' + B + 'access_log = "off"\n[sites.c]\nhosts = "c.example"\nroot = "c"\n'
    configs = configs_of(read(tmp_path, 'root = "w"\naccess_log = "-"\n' + own))
    assert {name: one.access_log for name, one in configs.items()} == {"default": "-", "a": "a.log", "b": "", "c": "-"}


def test_a_share_of_memory_is_a_size_or_a_part(tmp_path: Path) -> None:
    blog, app = read(tmp_path, FILE).sites
    assert isinstance(blog.memory_min, Share)
    assert (blog.memory_min.percent, blog.memory_max) == (10, 64 * MIB)
    assert (app.memory_min, isinstance(app.memory_max, Share)) == (0, True)


def test_a_file_may_have_sites_alone(tmp_path: Path) -> None:
    config = read(tmp_path, '[sites.a]\nhosts = ["a.example"]\nroot = "a"')
    assert config.root is None
    assert list(configs_of(config)) == ["a"]


def test_a_server_without_a_file_is_one_site() -> None:
    assert configs_of(Config(root="www")) == {"default": Config(root="www")}


def test_without_a_root_and_without_sites_there_is_nothing_to_serve() -> None:
    with pytest.raises(UsageError, match="no root given"):
        Config()


B = '[sites.b]\nhosts = ["b.example"]\nroot = "b"\n'
A = '[sites.a]\nhosts = ["a.example"]\nroot = "a"\n'


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("sites = 1", (1, 1), "sites: is no table; accepted: tables such as [sites.blog]"),
        ("[[sites]]\nroot = 'w'", (1, 1), "sites: is no table"),
        ("\n[sites]\n blog = 1", (3, 2), "sites.blog: is no table; accepted: [sites.blog]"),
        ("[site.a]", (1, 1), "unknown key 'site'; the nearest known is sites"),
        (A + "[sites.a.rules]", (4, 1), "rules: "),
        (A + 'rot = "x"', (4, 1), "unknown key 'rot'; the nearest known is root"),
        (A + 'host = "x"', (4, 1), "host is an address to listen at, which no site has; accepted: hosts"),
        ('[sites]\nhosts = ["x"]', (2, 1), "sites.hosts: is no table; accepted: a table for each site: [sites.blog]"),
        (A + "[[sites.c.rules]]\npath = '/x'", (4, 1), "sites.c has no hosts"),  # no typo of `a`
        (
            "[sites.blog]\nhosts = ['x']\nroot = 'w'\n[[sites.blgo.rules]]\npath = '*'\n",
            (4, 1),
            "sites.blgo.rules: no site is called blgo, which has neither root nor hosts; the nearest known is blog",
        ),
        (
            "[sites.blog]\nhosts = ['x']\nroot = 'w'\n[sites.Blog]\nspa = true\n",
            (4, 1),
            "sites.Blog.spa: no site is called Blog, which has neither root nor hosts; the nearest known is blog",
        ),
        (
            "[sites.bolg]\nhosts = ['x']\nroot = 'w'\n[sites.blog.error_pages]\n404 = '/x'\n",
            (4, 1),
            "sites.blog.error_pages: no site is called blog, which has neither root nor hosts; the nearest known is bo",
        ),
        (A + "memory = 1", (4, 1), "memory is the server's key, and no site's"),
        (A + "  memory-max = 1", (4, 3), "unknown key 'memory-max'; the nearest known is memory_max"),
        (A + 'memory_max = "120%"', (4, 1), "memory_max: '120%' is not a size"),
        (A + 'memory_min = "50%"\nmemory_max = "20%"', (4, 1), "memory_min: 50% is more than memory_max"),
        (A + 'index = ["a",\n  "b/c"]', (5, 3), "index: 'b/c' is not a file name"),
        (A + "pin = [1]", (4, 8), "pin: 1 is an integer, not text"),
        (A + "keep_generations = 17", (4, 1), "keep_generations: 17 is out of range"),
        (A + "keep_for = 1\nkeep_for_s = 2", (5, 1), "keep_for and keep_for_s are the same key"),
        (A + 'charset = "klingon"', (4, 1), "charset: "),
        ('[sites.a]\nhosts = ["a.example"]', (1, 1), "sites.a has no root"),
        ('[sites.a]\nroot = "a"', (1, 1), "sites.a has no hosts"),
        ('[sites.a]\nroot = "a"\nhosts = []', (1, 1), "sites.a has no hosts"),
        ('[sites.a]\nroot = ""\nhosts = "a"', (2, 1), "root: '' is not a path"),
        ('[sites.a]\nroot = "a"\nhosts = ["ok.example", "b.*.c"]', (3, 24), "hosts: 'b.*.c' has a wildcard"),
        ('[sites.a]\nroot = "a"\nhosts = "a.example:80"', (3, 1), "hosts: 'a.example:80' has a port"),
        ('[sites.a]\nroot = "a"\nhosts = ["bücher.example"]', (3, 10), "xn--bcher-kva.example"),
        ('[sites."a b"]\nroot = "a"\nhosts = ["b"]', (1, 1), "is not a name"),
        ('[sites.default]\nroot = "a"\nhosts = ["b"]', (1, 1), "sites.default: the site at the top of the file"),
        (A + '\n[sites.b]\nhosts = ["x.example", "a.example"]\nroot = "b"', (6, 1), "a name of the site a already"),
        ('root = "w"\nhosts = ["a.example"]\n' + A, (4, 1), "a.example is a name of the site default already"),
        (A + "\n[sites.b\n", (5, 1), "as many brackets close as open, with nothing between them; write [sites.b]"),
        ('root = "w"\nport = 8o\n', (2, 8), "a number with something behind it is a text"),
        ('root = "w"\nhosts = ["*"]', (2, 1), "hosts: '*' has a wildcard"),
        ('root = "w"\nunknown_host = "404"', (2, 1), "unknown_host: '404' is unknown; accepted: one of default, 421"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_column(
    tmp_path: Path, text: str, where: tuple[int, int], what: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    place = f"{tmp_path / 'web.toml'}:{where[0]}:{where[1]}: "
    assert str(caught.value).startswith(place)
    assert what in str(caught.value)


def test_what_only_the_values_of_a_site_make_wrong_names_it(tmp_path: Path) -> None:
    from zcserve.config.site import SiteTable

    table = SiteTable(name="a", hosts=("a.example",), values={"root": "a", "index": ("a/b",)})
    with pytest.raises(UsageError, match=r"sites\.a: index: 'a/b' is not a file name"):
        configs_of(Config(root="w", sites=(table,)))


def test_no_site_serves_the_users_of_another(tmp_path: Path) -> None:
    auth = "[[sites.a.auth]]\npath = '/**'\nusers_file = '{}'\n"
    sites = "".join(f"[sites.{name}]\nhosts = ['{name}.example']\nroot = '{tmp_path}/{name}'\n" for name in "ab")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "users").write_text("")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "b" / "users")
    for file in (tmp_path / "b" / "users", tmp_path / "elsewhere", tmp_path / "a" / ".." / "b" / "sub" / ".users"):
        with pytest.raises(UsageError, match=r"web.toml:10:1: sites.a.auth\[0\].users_file: .* lies below '.*/b'"):
            configs_of(read(tmp_path, sites + "\n" + auth.format(file)))
    assert set(configs_of(read(tmp_path, sites + "\n" + auth.format(tmp_path / "users")))) == {"a", "b"}


def test_a_thousand_sites_are_read_in_a_moment(tmp_path: Path) -> None:
    text = "".join(f'[sites.s{n}]\nhosts = ["s{n}.example"]\nroot = "r{n}"\n' for n in range(1000))
    assert len(read(tmp_path, text).sites) == 1000


def test_a_site_has_the_servers_dialect_of_rules_unless_it_says_its_own(tmp_path: Path) -> None:
    text = 'root = "w"\nrules_dialect = "cloudflare"\n' + A + B + 'rules_dialect = "netlify"\n'
    assert [one.rules_dialect for one in configs_of(read(tmp_path, text)).values()] == [
        "cloudflare", "cloudflare", "netlify",
    ]  # fmt: skip
    with pytest.raises(
        UsageError, match=r"web.toml:5:1: rules_dialect: 'caddy' is unknown; accepted: one of netlify, "
    ):
        read(tmp_path, 'root = "w"\n' + A + 'rules_dialect = "caddy"\n')


def test_what_is_wrong_with_a_table_of_a_site_is_told_with_its_own_place_alone(tmp_path: Path) -> None:
    tables = "[[sites.a.auth]]\npath = '/a'\nopen = true\n[[sites.a.rules]]\npath = '/a'\nsett = 1"
    config = read(tmp_path, A + tables)
    (table,) = config.sites
    (rule,) = tables_of(table.values["rules"], ("rules",))
    with pytest.raises(UsageError) as caught:
        rule.require(("path", "set"))
    told = f"{tmp_path / 'web.toml'}:9:1: sites.a.rules[0].sett: unknown word 'sett'; the nearest known is set"
    assert str(table.refuse(caught.value)) == told
    assert str(table.refuse(UsageError("it fails"))) == f"{tmp_path / 'web.toml'}:1:1: sites.a: it fails"
