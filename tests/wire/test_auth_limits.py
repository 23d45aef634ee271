"""A client that guesses passwords is answered without a check, and no other client feels it; on both engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.client import Client, Response
from tests.support.passwords import ALICE, ALICE_BCRYPT, BOB, BOB_BCRYPT, basic
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.auth.remembered import REMEMBERED_S
from zcserve.explain import explanation_of
from zcserve.net.admission import Keeper

pytest.importorskip("bcrypt")

AS_ALICE, AS_BOB = basic("alice", ALICE), basic("bob", BOB)
USERS = {"alice": ALICE_BCRYPT, "bob": BOB_BCRYPT}
MOST, WITHIN_S = 3, 60.0
GUESSER, OTHER = "127.0.0.7", "127.0.0.8"


class House:
    """A server whose passwords have a clock of their own, which is told the time; `checked` are those that were."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = server.port
        self.now = 1000.0
        self.checked: list[bytes] = []
        self.keeper = Keeper(server.loop.call_soon, lambda: self.now, MOST, WITHIN_S)
        server.service.keeper = self.keeper
        check = self.keeper.checks.check

        def noted(hashed: str, password: bytes) -> bool:
            self.checked.append(password)
            return check(hashed, password)

        self.keeper.checks.check = noted

    def client(self, source: str) -> Client:
        return Client(self.port, source=source)


def guess(client: Client, number: int, *lines: str, target: str = "/in/a.txt", method: str = "GET") -> Response:
    return client.get(target, basic("alice", f"guess {number}"), *lines, method=method)


@pytest.fixture
def house(live: Serve, site: Site, tmp_path: Path) -> House:
    site.write("in/a.txt", b"secret")
    site.write("out.txt", b"free")
    rules = (
        {"path": "/in/**", "cors": {"origins": ["https://a.example"]}},
        {"path": "/**", "set": {"X-All": "1"}},
    )
    auth = ({"path": "/in/**", "users": USERS},)
    log = str(tmp_path / "log")
    trusted = ("127.0.0.1",)
    return House(
        live(
            site.root,
            auth=auth,
            rules=rules,
            access_log=log,
            proxy_headers=trusted,
            wrong_passwords_max=MOST,
            wrong_passwords_time_s=WITHIN_S,
        )
    )


def test_a_client_that_guesses_gets_429_and_no_other_client_feels_it(
    house: House, tmp_path: Path, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    with house.client(GUESSER) as guesser, house.client(OTHER) as other:
        assert guesser.get("/in/a.txt", AS_ALICE).status == 200
        for number in range(MOST):
            assert [guess(guesser, number).status for _ in range(2)] == [401, 401]
        assert len(house.checked) == 1 + MOST
        answer = guess(guesser, MOST, "Origin: https://a.example")
        assert (answer.status, answer["Retry-After"], answer["WWW-Authenticate"]) == (429, b"60", None)
        assert (answer["Cache-Control"], answer["X-All"]) == (b"no-store", b"1")
        assert answer["Access-Control-Allow-Origin"] == b"https://a.example"
        assert b"too many wrong passwords" in answer.body
        assert b"secret" not in answer.body
        for target in ("/in/none", "/in/", "//in/a.txt", "/%69n/a.txt"):
            for method in ("GET", "HEAD", "DELETE", "OPTIONS"):
                assert guess(guesser, MOST, target=target, method=method).status == 429
        assert guesser.get("/in/a.txt", AS_BOB).status == 429  # it was never right here: it might be a guess
        assert guess(guesser, 0).status == 401  # told again, and wrong still
        assert guesser.get("/in/a.txt", AS_ALICE).body == b"secret"
        for lines in ((), ("Authorization: Basic !",), ("Authorization: Bearer x",)):
            assert guesser.get("/in/a.txt", *lines).status == 401
        assert guess(guesser, 0, target="/out.txt").body == b"free"
        assert len(house.checked) == 1 + MOST
        assert other.get("/in/a.txt", AS_BOB).body == b"secret"
        assert guesser.get("/in/a.txt", AS_BOB).status == 429  # it was right elsewhere
        for number in range(MOST):
            assert guess(other, number).status == 401
        assert guess(other, MOST).status == 429
        house.now += WITHIN_S - 0.5
        assert guess(guesser, MOST)["Retry-After"] == b"1"
        house.now += 0.5
        assert guess(guesser, MOST).status == 401
        assert guesser.get("/in/a.txt", AS_BOB).status == 200
        house.now += REMEMBERED_S
        for number in range(MOST):
            assert guess(guesser, number).status == 401
        checked = len(house.checked)
        assert [guesser.get("/in/a.txt", who).status for who in (AS_ALICE, AS_BOB)] == [200, 200]  # right once
        assert len(house.checked) == checked + 2
        assert guess(guesser, MOST).status == 429
    assert "answered 429, a client has told as many wrong passwords as --wrong-passwords-max (3) allows" in caplog.text
    assert "if it is a proxy, all its clients count as one: --proxy-headers" in caplog.text
    logged = wait_until(lambda: [one for one in (tmp_path / "log").read_text().splitlines() if '" 429 ' in one])
    assert {line.split(" [")[0] for line in logged} <= {f"{GUESSER} - -", f"{OTHER} - -"}
    assert house.keeper.counts["limited"] > 4
    assert "429" in " ".join(explanation_of(house.server.config, "/in/a.txt", "GET", (AS_ALICE,)).notes)


def test_what_comes_at_once_is_limited_as_well_and_answered_in_order(house: House) -> None:
    with house.client(GUESSER) as client:
        asks = [("/in/a.txt", basic("alice", f"guess {number}")) for number in range(2 * MOST)]
        asks.append(("/out.txt", "X: y"))
        client.send(b"".join(f"GET {target} HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n".encode() for target, line in asks))
        assert [client.read().status for _ in asks] == [401] * MOST + [429] * MOST + [200]
        # No body is asked for, and none is read for an application.
        line = basic("alice", "guess 99")
        client.send(
            f"POST /in/a HTTP/1.1\r\nHost: a\r\n{line}\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert client.read().status == 429
        assert client.at_end()


def test_behind_a_proxy_a_client_is_what_the_proxy_says(house: House) -> None:
    def statuses(client: Client, *forwarded: str) -> list[int]:
        return [guess(client, number, f"X-Forwarded-For: {one}").status for number, one in enumerate(forwarded)]

    with house.client("127.0.0.1") as proxy, house.client(GUESSER) as client:
        assert statuses(proxy, *["192.0.2.1"] * 4) == [401, 401, 401, 429]
        assert statuses(proxy, "192.0.2.2", "10.0.0.1, 192.0.2.1", "::ffff:192.0.2.1") == [401, 401, 401]
        assert guess(proxy, 9, "X-Forwarded-For: 10.0.0.1, 192.0.2.1").status == 429
        # An IPv6 client has as many addresses as it likes.
        assert statuses(proxy, *(f"2001:db8::{number}" for number in range(1, 5))) == [401, 401, 401, 429]
        assert statuses(proxy, "2001:db8:0:1::1") == [401]
        # What a client itself says of its address is not believed.
        assert statuses(client, *(f"192.0.2.{number}" for number in range(10, 14))) == [401, 401, 401, 429]
