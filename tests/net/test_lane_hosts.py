"""The lane with several sites: which one a host is for, what each has for itself, and how one goes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.driver import Driver, Fake, packed

Lane: Any = pytest.importorskip("zcserve.net._lane").Lane

NAMES = {
    b"example.org": 1,
    b"www.example.org": 2,
    b"*.example.org": 3,
    b"*.a.example.org": 4,
    b"b.a.example.org": 5,
    b"[::1]": 6,
    b"*.org": 7,
    b"192.0.2.1": 8,
}


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """`drive(**config)`: a driver with three sites, one for each name, and the first for what is unknown."""
    made: list[Driver] = []

    def start(**more: Any) -> Driver:
        driver = Driver(tmp_path, **more)
        made.append(driver)
        for site in range(3):
            if site:
                driver.lane.add_site()
            driver.lane.set_not_found(b"Content-Length: 1\r\n\r\n", b"%d" % site, site)
            driver.lane.know([[b"/a"]], 1, site)
            put_in(driver.lane, site, b"/a")
        driver.lane.set_hosts({b"one.test": 1, b"two.test": 2}, 0, 0)
        return driver

    yield start
    for driver in made:
        driver.close()


def put_in(lane: Any, site: int, key: bytes, entry: Fake | None = None) -> Fake:
    """Teach a site its own content for a key."""
    entry = entry or packed(b"%s of %d" % (key, site))
    entry.key = key
    lane.put(key, (entry,), site)
    return entry


def get(host: bytes, target: bytes = b"/a") -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, host)


def site_of(lane: Any, host: bytes) -> int | None:
    """As Host says, and as the authority of a target does."""
    said: int | None = lane.site_of(get(host))
    if host:
        assert lane.site_of(get(host, b"http://%s/a" % host)) == said
        assert lane.site_of(get(host)) == said  # as it is remembered
    return said


# --- which site a host is for -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "site"),
    [
        (b"example.org", 1),
        (b"www.example.org", 2),
        (b"WWW.Example.ORG:8080", 2),
        (b"www.example.org.", 2),
        (b"www.example.org.:80", 2),
        (b"www.example.org..", 0),
        (b"x.example.org", 3),
        (b"x.y.example.org", 3),
        (b"a.example.org", 3),
        (b"x.a.example.org", 4),
        (b"x.y.a.example.org", 4),
        (b"b.a.example.org", 5),
        (b"c.b.a.example.org", 4),
        (b"xexample.org", 7),
        (b".example.org", 0),
        (b"..example.org", 0),
        (b"x..example.org", 0),
        (b"[0:0::1]", None),  # Python is to say
        (b"*.example.org", 3),
        (b"org", 0),
        (b"example.com", 0),
        (b"[::1]", 6),
        (b"[::1]:80", 6),
        (b"[::2]", 0),
        (b"192.0.2.1:", 8),
        (b"", 0),
        (b".", 0),
        (b"a." * 120 + b"example.org", 4),
        (b"a." * 123 + b"example.org", 0),  # longer than a name can be
    ],
)
def test_a_host_is_for_the_site_of_its_name_or_of_the_longest_wildcard(lane: Any, host: bytes, site: int) -> None:
    lane.set_hosts(NAMES, 0, 0)
    assert site_of(lane, host) == site


def test_lookups_of_names_do_what_a_dictionary_does(lane: Any) -> None:
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies as st

    label = st.sampled_from([b"a", b"b", b"example", b"org", b"-x", b"a" * 60])
    name = st.lists(label, min_size=1, max_size=5).map(b".".join)
    names = st.dictionaries(st.one_of(name, name.map(lambda below: b"*." + below)), st.integers(0, 8), max_size=12)
    others = st.one_of(st.none(), st.integers(0, 8))
    spelled = st.tuples(name, st.sampled_from([bytes, bytes.upper, bytes.title]), st.sampled_from([b"", b".", b":80"]))

    def interpret(sites: dict[bytes, int], host: bytes, unknown: int | None) -> int | None:
        """The plain reading of what names are for."""
        below = [site[2:] for site in sites if site.startswith(b"*.") and host.endswith(site[1:])]
        if host in sites:
            return sites[host]
        return sites[b"*." + max(below, key=len)] if below else unknown

    @hypothesis.settings(max_examples=150, deadline=None)
    @hypothesis.given(names, st.lists(spelled, min_size=1, max_size=6), others, others)
    def law(sites: dict[bytes, int], hosts: Any, unnamed: int | None, unknown: int | None) -> None:
        lane.set_hosts(sites, unnamed, unknown)
        for host, spell, behind in hosts:
            assert site_of(lane, spell(host) + behind) == interpret(sites, host, unknown)
        assert lane.site_of(b"GET /a HTTP/1.0\r\n\r\n") == lane.site_of(get(b"")) == unnamed

    law()


def test_a_target_with_an_authority_goes_before_host(lane: Any) -> None:
    lane.set_hosts(NAMES, 0, None)
    assert lane.site_of(get(b"example.org", b"http://WWW.example.org:80/a")) == 2
    assert lane.site_of(get(b"WWW.example.org:80", b"http://example.org/a")) == 1
    assert lane.site_of(b"GET http://www.example.org/a HTTP/1.0\r\n\r\n") == 2
    assert lane.site_of(get(b"example.org", b"http://x.test/a")) is None
    assert lane.site_of(get(b"exa mple", b"http://www.example.org/a")) is None, "a Host must be one"


def test_other_hosts_make_what_is_remembered_void(lane: Any) -> None:
    for site in (1, 2, None, 3):
        lane.set_hosts({b"example.org": 4}, 0, site)
        assert [site_of(lane, host) for host in (b"test", b"example.org")] == [site, 4]


@pytest.mark.parametrize(
    "name",
    [b"", b"A", b"a.", b".a", b"*", b"*.", b"**.a", b"a.*.b", b"*a", b"*.*.a", b"a:80", b"a" * 256],
)
def test_what_no_host_is_found_by_is_no_name(lane: Any, name: bytes) -> None:
    with pytest.raises(ValueError, match="no name"):
        lane.set_hosts({name: 1}, 0, 0)
    assert lane.site_of(get(b"a")) == 0


@pytest.mark.parametrize("said", [({b"a": 9}, 0, 0), ({}, 9, 0), ({}, 0, 9)])
def test_a_host_leads_to_a_site_that_there_is(lane: Any, said: Any) -> None:
    with pytest.raises(ValueError, match="no site 9"):
        lane.set_hosts(*said)


def test_a_thousand_sites_and_their_wildcards_are_all_found(lane: Any) -> None:
    sites = [lane.add_site() for _ in range(1000)]
    names = {b"site%d.test" % site: site for site in sites} | {b"*.site%d.test" % site: site for site in sites}
    lane.set_hosts(names, None, None)
    assert [site_of(lane, b"site%d.test" % site) for site in sites] == sites
    assert [site_of(lane, b"x.y.site%d.test" % site) for site in sites] == sites
    assert site_of(lane, b"site.test") is None


# --- what each site has for itself ------------------------------------------------------------------------------


def ask(driver: Driver, client: Client, *hosts: bytes, target: bytes = b"/a") -> list[bytes]:
    """The contents of answers to pipelined requests for these hosts."""
    answers = driver.ask(client, b"".join(get(host, target) for host in hosts), len(hosts))
    return [answer.body for answer in answers]


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_connection_gets_each_hosts_own_content_and_its_own_page_for_what_is_absent(
    drive: Callable[..., Driver], lanes: int
) -> None:
    driver = drive()
    where = driver.where if lanes == 1 else driver.add_lane()
    hosts = (b"one.test", b"two.test", b"else.test", b"TWO.test:80", b"one.test")
    with Client(where) as client:
        for _ in range(2):
            assert ask(driver, client, *hosts) == [b"/a of %d" % site for site in (1, 2, 0, 2, 1)]
            assert ask(driver, client, *hosts, target=b"/none") == [b"1", b"2", b"0", b"2", b"1"]
        driver.lane.put_redirect(b"/a", b"Content-Length: 0\r\nLocation: /b\r\n\r\n", b"", 2)
        driver.lane.forget_key(b"/a", 1)
        assert ask(driver, client, b"else.test") == [b"/a of 0"]
        assert driver.ask(client, get(b"two.test"))[0].status == 301
        driver.lane.learn(lambda path: put_in(driver.lane, 1, path, packed(b"learned")) and None, 1)
        assert ask(driver, client, b"one.test") == [b"learned"]
    assert driver.taken == []


@pytest.mark.parametrize("lanes", [1, 2])
def test_what_no_site_has_goes_to_python_where_that_is_told(drive: Callable[..., Driver], lanes: int) -> None:
    driver = drive()
    where = driver.where if lanes == 1 else driver.add_lane()
    with Client(where) as client:
        assert ask(driver, client, b"else.test", b"one.test") == [b"/a of 0", b"/a of 1"]
        driver.lane.set_hosts({b"one.test": 1}, None, None)
        epoch = driver.lane.await_lanes()
        driver.until(lambda: driver.lane.has_passed(epoch))
        client.send(get(b"one.test") + get(b"two.test"))
        assert driver.next_taken()[1][1] == get(b"two.test")
        assert client.read().body == b"/a of 1"
    with Client(where) as client:
        client.send(b"GET /a HTTP/1.0\r\n\r\n")
        assert driver.next_taken()[1][1] == b"GET /a HTTP/1.0\r\n\r\n"


def test_one_sites_keys_are_forgotten_and_anothers_are_not(lane: Any) -> None:
    for site in (1, 2):
        put_in(lane, site, b"/a")
        lane.know([[b"/a"]], 1, site)
        lane.set_not_found(b"Content-Length: 0\r\n\r\n", b"", site)
    lane.clear(0, 1)
    assert [lane.knows(b"/a", site) for site in (0, 1, 2)] == [False, False, True]
    lane.add_keys([b"/b"], 1)
    lane.remove_keys([b"/a"], 1)
    assert [[lane.is_absent(key, 1, site) for key in (b"/a", b"/b")] for site in (0, 1, 2)] == [[0, 0], [1, 0], [0, 1]]


def test_an_entry_is_found_in_whichever_site_it_is(lane: Any) -> None:
    entries = {site: put_in(lane, site, b"/a") for site in range(9)}
    both = put_in(lane, 1, b"/b")
    put_in(lane, 8, b"/b", both)
    lane.drop(entries[3])
    lane.drop(both)
    assert [site for site in range(9) if lane.knows(b"/a", site)] == [0, 1, 2, 4, 5, 6, 7, 8]
    assert not any(lane.knows(b"/b", site) for site in range(9))
    assert [site for site, entry in entries.items() if lane.holds(entry)] == [0, 1, 2, 4, 5, 6, 7, 8]


def test_an_application_answers_for_its_own_site_alone(drive: Callable[..., Driver]) -> None:
    driver, asked = drive(), []
    driver.lane.consult(lambda method, target: asked.append(target), None, 1)
    driver.lane.know([[]], 0, 2)
    with Client(driver.where) as client:
        assert ask(driver, client, b"two.test", target=b"/none") == [b"2"]
        client.send(get(b"one.test", b"/none"))
        driver.next_taken()
    assert asked == [b"/none"]


# --- a site goes ------------------------------------------------------------------------------------------------


def test_a_site_goes_when_no_host_leads_to_it_and_gives_all_back_in_pieces(drive: Callable[..., Driver]) -> None:
    driver = drive()
    lane, count = driver.lane, 3000
    ends = [weakref.ref(put_in(lane, 1, b"/%d" % number).body) for number in range(count)]
    with pytest.raises(ValueError, match="a host leads to site 1"):
        lane.drop_site(1)
    with Client(driver.where) as client:
        assert ask(driver, client, b"one.test") == [b"/a of 1"]
        lane.set_hosts({b"two.test": 2}, 0, 0)
        lane.drop_site(1)
        left = [count]
        while left[-1]:
            driver.turn(0.01)
            left.append(sum(end() is not None for end in ends))
        assert len(left) > 10
        assert ask(driver, client, b"one.test", b"two.test") == [b"/a of 0", b"/a of 2"]
    with pytest.raises(ValueError, match="no site 1"):
        put_in(lane, 1, b"/a")
    assert lane.add_site() == 3, "a number is given once"


def test_a_site_that_went_is_freed_when_each_lane_has_passed(drive: Callable[..., Driver]) -> None:
    driver = drive()
    lane = driver.lane
    end = weakref.ref(put_in(lane, 1, b"/b").body)
    number = lane.add_lane()
    lane.set_hosts({}, 0, 0)
    lane.drop_site(1)
    for _ in range(20):
        driver.turn(0.001)
    assert end() is not None, "the other lane may be reading it"
    driver.run_lane(number)
    driver.until(lambda: end() is None and lane.withdrawn == 0)


def test_what_a_site_was_told_to_ask_goes_with_it(lane: Any) -> None:
    class Asked:
        """What can be asked, and whose end can be seen."""

        def __call__(self, *_: object) -> None:
            pass

    asked = [Asked(), Asked()]
    ends = [weakref.ref(one) for one in asked]
    lane.learn(asked[0], 1)
    lane.consult(asked[1], None, 1)
    del asked
    gc.collect()
    assert [end() is not None for end in ends] == [True, True]
    lane.drop_site(1)
    assert [end() for end in ends] == [None, None]


def test_sites_come_and_go_beside_a_lane_that_answers(drive: Callable[..., Driver]) -> None:
    driver = drive()
    lane = driver.lane
    with Client(driver.add_lane()) as client:
        for round_ in range(30):
            site = lane.add_site()
            put_in(lane, site, b"/a", packed(b"round %d" % round_))
            lane.set_hosts({b"one.test": site, b"two.test": 2}, 0, 0)
            epoch = lane.await_lanes()
            driver.until(lambda epoch=epoch: lane.has_passed(epoch))
            if round_:
                lane.drop_site(site - 1)
            assert ask(driver, client, b"one.test", b"two.test") == [b"round %d" % round_, b"/a of 2"]
    driver.until(lambda: lane.withdrawn == 0)
