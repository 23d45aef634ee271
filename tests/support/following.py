"""What the tests of changing content share: publishing, checking an answer, and asking meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import mmh3

from tests.support.client import Client, Response
from zcserve import Server
from zcserve.cache.tags import content_tag

WITHIN_S = 20.0  # a thread that is to end does so


def tag_of(content: bytes) -> bytes:
    return content_tag(mmh3.mmh3_x64_128_digest(content))


def publish(path: Path, content: bytes) -> None:
    """Replace a file by rename, from a name that is not served."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_bytes(content)
    aside.rename(path)


def checked(response: Response) -> Response:
    """A whole answer with the tag of its content."""
    assert response.status == 200, response.head
    if response["Content-Encoding"] is None:
        assert response["ETag"] == tag_of(response.body)
    return response


Known = Callable[[Server], None]


class Becomes(Protocol):
    """A fixture that waits until `target` is answered with `body`; None: with 404."""

    def __call__(self, client: Client, target: str, body: bytes | None) -> Response: ...


@contextmanager
def asking(count: int, ask: Callable[[int], None]) -> Iterator[None]:
    """So many threads that each call `ask(n)` again and again; what they raise is raised in the end."""
    done = threading.Event()
    failed: list[BaseException] = []

    def run(number: int) -> None:
        try:
            while not done.is_set():
                ask(number)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join(WITHIN_S)
        assert not any(thread.is_alive() for thread in threads)
    if failed:
        raise failed[0]


T = TypeVar("T")


def in_loop(server: Server, call: Callable[[], T]) -> T:
    """What `call` gives, made in the loop's thread of a server that serves from a thread."""
    made: Future[T] = Future()

    def make() -> None:
        try:
            made.set_result(call())
        except BaseException as error:
            made.set_exception(error)

    server.loop.call_soon(make)
    return made.result(WITHIN_S)
