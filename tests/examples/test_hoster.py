"""docs/examples/hoster: thirty sites of one hoster."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support.client import get
from tests.support.engines import ENGINES
from tests.support.examples import GetExample, Holds, Row
from tests.support.waiting import WaitUntil

NAMES = [f"customer-{number:02}" for number in range(1, 31)]
SAFE = {"X-Frame-Options": "SAMEORIGIN", "Cache-Control": "max-age=60"}
ROWS = (
    *(Row(f"{name} has its site", f"http://{name}.hoster.example/", 200, {}, f"sites/{name}/index.html",
        explained=name < "customer-04") for name in NAMES),
    Row("a customer's own name leads there, too", "http://www.customer-07.example/", 200, SAFE,
        "sites/customer-07/index.html"),
    Row("so does any below it", "http://a.b.customer-07.example/", 200, SAFE, "sites/customer-07/index.html"),
    Row("in letters of any case, with a port and a dot", "/", 200, {}, "sites/customer-07/index.html",
        ("Host: Customer-07.Hoster.Example.:8080",)),
    Row("the name itself is not below it", "http://customer-07.example/", 421),
    Row("the hoster has a site", "http://www.hoster.example/", 200, SAFE, "sites/hoster/index.html"),
    Row("a host that no site has is told so", "http://customer-31.hoster.example/", 421, {"Cache-Control": None}),
    Row("so is an address", "http://192.0.2.1/", 421),
    Row("a redirect is of its site", "http://customer-01.hoster.example/shop/cart?a=b", 302,
        {"Location": "https://shop.example/cart?a=b"}),
    Row("and of no other", "http://customer-04.hoster.example/shop/cart", 404),
    Row("a page for what is missing likewise", "http://customer-01.hoster.example/none", 404, {},
        "sites/customer-01/404.html"),
    Row("an application draws its pages", "http://customer-02.hoster.example/a/b", 200, SAFE,
        "sites/customer-02/index.html"),
    Row("a site says what it wants otherwise", "http://customer-03.hoster.example/", 200,
        {"X-Frame-Options": None, "Cache-Control": "no-cache"}),
    Row("no site shows what another has", "http://customer-05.hoster.example/../customer-06/index.html", 404),
)  # fmt: skip


def test_the_example_answers_as_its_rows_say(example: GetExample, holds: Holds) -> None:
    holds(example("hoster"), ROWS)


def test_a_customer_comes_by_a_reload_while_the_others_go_on(example: GetExample, wait_until: WaitUntil) -> None:
    made = example("hoster")
    server = made.start(ENGINES[-1])
    try:
        server.wait_ready()

        def status(number: int) -> int:
            return get(server.port, f"http://customer-{number}.hoster.example/").status

        assert (status(30), status(31)) == (200, 421)
        maker = Path("make.py")
        maker.write_text(maker.read_text().replace("range(1, 31)", "range(2, 32)"))
        made.make()
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: status(31) == 200)
        assert (status(30), get(server.port, "http://customer-01.hoster.example/").status) == (200, 421)
    finally:
        server.end()
