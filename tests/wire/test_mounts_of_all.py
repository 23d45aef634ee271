"""Applications mounted at the root of a site that has files: files go first, servlets next, the application answers the
rest; on both engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.following import Becomes
from tests.support.servlets import servlets_of
from tests.support.site import Serve, Site
from tests.support.stage import JOURNAL, NameApplication, StageClient, write_servlets
from tests.support.waiting import WaitUntil

TIMES = 3


SERVLETS = """
def get(request):
    return b"servlet"

@servlet("/own/{name}")
def own(request, name):
    return "servlet " + name
"""


@pytest.fixture
def django_urls(django_urls: Any) -> Iterator[Any]:
    """Django remembers what its URLs lead to."""
    from django import urls

    urls.clear_url_caches()
    yield django_urls
    urls.clear_url_caches()


def flask_application(_: Any) -> Any:
    flask = pytest.importorskip("flask")
    application = flask.Flask("all")

    @application.route("/", defaults={"path": ""}, methods=["GET", "POST"])
    @application.route("/<path:path>", methods=["GET", "POST"])
    def say(path: str) -> Any:
        return f"{flask.request.method} /{path}", 404 if path == "absent" else 200

    return application


def starlette_application(_: Any) -> Any:
    applications = pytest.importorskip("starlette.applications")
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def say(request: Any) -> Any:
        path = request.url.path
        return PlainTextResponse(f"{request.method} {path}", 404 if path == "/absent" else 200)

    return applications.Starlette(routes=[Route("/{path:path}", say, methods=["GET", "POST"])])


def django_application(gateway: str) -> Callable[[Any], Any]:
    def make(request: pytest.FixtureRequest) -> Any:
        urls = request.getfixturevalue("django_urls")
        from django import http
        from django import urls as django
        from django.core.asgi import get_asgi_application
        from django.core.wsgi import get_wsgi_application
        from django.views.decorators.csrf import csrf_exempt

        @csrf_exempt
        def say(request: Any, path: str) -> Any:
            return http.HttpResponse(f"{request.method} /{path}", status=404 if path == "absent" else 200)

        urls.urlpatterns = [django.re_path("^(?P<path>.*)$", say)]
        return get_wsgi_application() if gateway == "wsgi" else get_asgi_application()

    return make


@pytest.mark.parametrize(
    "make",
    [flask_application, starlette_application, django_application("wsgi"), django_application("asgi")],
    ids=["flask", "starlette", "django-wsgi", "django-asgi"],
)
def test_files_go_first_then_servlets_then_the_application(
    make: Any,
    live: Serve,
    site: Site,
    module: NameApplication,
    tmp_path: Path,
    becomes: Becomes,
    request: pytest.FixtureRequest,
) -> None:
    site.write("index.html", b"an index")
    site.write("page", b"a page")
    site.write("below/index.html", b"below")
    site.write("empty/deep/file", b"deep")
    folder = str(write_servlets(tmp_path, all=SERVLETS))
    server = live(site.root, servlets=folder, mount=(f"/={module(make(request))}",))
    with StageClient(server.port) as client:
        for _ in range(TIMES):
            for target, body in (
                ("/", b"an index"),
                ("/page", b"a page"),
                ("/page?q", b"a page"),
                ("/%70age", b"a page"),
                ("/below/", b"below"),
                ("/csp?all", b"servlet"),
                ("/own/x", b"servlet x"),
                ("/csp?nobody", b"GET /csp"),
                ("/csp", b"GET /csp"),
                ("/other", b"GET /other"),
                ("/own/", b"GET /own/"),
                ("/empty/", b"GET /empty/"),
                ("/page/", b"GET /page/"),
            ):
                response = client.get(target)
                assert (target, response.status, response.body) == (target, 200, body)
            redirect = client.get("/below")
            assert (redirect.status, redirect["Location"]) == (301, b"/below/")
            absent = client.get("/absent")
            assert (absent.status, absent.body) == (404, b"GET /absent")  # the application's own page
            head = client.get("/page", method="HEAD")
            assert head["ETag"] == client.get("/page")["ETag"] is not None
            client.ask("/page", method="POST", body=b"x")  # a file is not asked for by POST
            assert client.read().body == b"POST /page"
        site.write("other", b"now a file")
        becomes(client, "/other", b"now a file")
        (site.root / "other").unlink()
        becomes(client, "/other", b"GET /other")


@pytest.mark.parametrize("gateway", ["wsgi", "writing"])
def test_an_application_that_never_says_anything_is_closed_with_its_client(
    live: Serve, site: Site, module: NameApplication, wait_until: WaitUntil, gateway: str
) -> None:
    """PEP 3333 lets an application yield b"" while it has nothing to say."""
    happened: list[str] = []

    def silence() -> Iterator[bytes]:
        try:
            happened.append("begun")
            while True:
                yield b""
        finally:
            happened.append("closed")

    def begun() -> Iterator[bytes]:
        yield b"first"
        yield from silence()

    def wsgi(environ: Any, start_response: Any) -> Iterator[bytes]:
        write = start_response("200 OK", [])
        if gateway == "writing":
            write(b"first")
        return begun() if environ["PATH_INFO"] == "/begun" and gateway == "wsgi" else silence()

    server = live(site.root, mount=(f"/app={module(wsgi)}",), servlet_threads=1)
    for target in ("/app/", "/app/begun"):
        happened.clear()
        with StageClient(server.port) as client:
            client.ask(target)
            wait_until(lambda: happened == ["begun"])
            client.reset()
        wait_until(lambda: happened == ["begun", "closed"])
    wait_until(lambda: servlets_of(server).context.pool.idle == 1)


@pytest.mark.parametrize("first", [True, False])
def test_a_servlet_that_has_nothing_to_say_for_ever_is_let_go_with_its_client(
    live: Serve, site: Site, tmp_path: Path, wait_until: WaitUntil, first: bool
) -> None:
    source = f"""
    @servlet("/silent", thread=True)
    def silent(request):
        try:
            if {first}:
                yield b"first"
            JOURNAL.append("begun")
            while True:
                time.sleep(0.001)
                yield b""
        finally:
            JOURNAL.append("closed")
    """
    server = live(site.root, servlets=str(write_servlets(tmp_path, silent=source)), servlet_threads=1)
    with StageClient(server.port) as client:
        client.ask("/silent")
        wait_until(lambda: JOURNAL == ["begun"])
        client.reset()
    wait_until(lambda: JOURNAL == ["begun", "closed"])
