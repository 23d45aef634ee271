"""`zcserve explain URL`: what a request would be answered with, and why, from the configuration and the files as they
are now. No server is asked, none is started, and nothing is left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace

from zcserve.cache.budget import budget_of
from zcserve.cache.entry import Body, Entry
from zcserve.cache.index import Generation
from zcserve.cache.reading import ChangedError
from zcserve.cache.store import Store
from zcserve.cache.walk import walk
from zcserve.config.table import Config
from zcserve.log import await_out, printable
from zcserve.net.explanation import Explainer, Explanation, HeadAlone, request_of, where_of
from zcserve.net.request import Parser
from zcserve.site.hosts import Hosts
from zcserve.site.listing_page import page_of
from zcserve.site.listings import Listed, Made, composed
from zcserve.site.site import Site
from zcserve.sites import Sites


class _OnDisk:
    """A `Source` (net/explanation.py): of the site that is asked for, the files are looked for and the one is read that
    is the answer; of the others nothing."""

    def __init__(self, sites: Sites) -> None:
        self._tenants = {tenant.site.id: tenant for tenant in sites}

    def open(self, site: Site) -> None:
        """As `Source.open`. Raises UsageError where the root cannot be read."""
        if (tenant := self._tenants.get(site.id)) is not None:
            generation = walk(tenant.builder.open_root(), index=tenant.config.index)
            tenant.builder.read_error_pages(generation)
            site.serve(generation)

    def prepare(self, site: Site, generation: Generation, base: Entry) -> None:
        """As `Source.prepare`: siblings are compared with the file, and what --compress makes is made."""
        loader = self._tenants[site.id].loader
        with suppress(OSError):
            loader.judge_siblings(generation.root, base)
        if loader.wants_variants(base):
            loader.try_to_add_variants(generation.root, base, lambda attach: attach())

    def body(self, site: Site, generation: Generation, base: Entry, chosen: Entry) -> tuple[Body, str]:
        """As `Source.body`."""
        try:
            body = chosen.body or self._tenants[site.id].loader.load(generation.root, chosen)
        except ChangedError:
            raise OSError("it changes at this moment") from None
        return body, "the variant is made after the start; until then the file itself is sent" if chosen.made else ""

    def page(self, site: Site, listed: Listed) -> Made:
        """As `Source.page`."""
        resources = listed.generation.resources
        page = page_of(listed.key, listed.listing, resources, is_json=listed.is_json, is_shown=listed.is_shown)
        entry = composed(listed, page)
        head = self._tenants[site.id].loader.head_of(None, entry)
        return Made(entry, HeadAlone(head, entry.size), page.names)

    def has_application(self, site: Site) -> bool:
        """As `Source.has_application`."""
        tenant = self._tenants.get(site.id)
        return tenant is not None and bool(tenant.config.servlets or tenant.config.mount)


def show(config: Config, url: str, method: str = "GET", lines: Sequence[str] = (), *, is_json: bool = False) -> int:
    """Print it; `lines` are further fields of the request ("Name: value"). The exit code. Raises UsageError."""
    told = explanation_of(config, url, method, lines)
    await_out()
    print(json.dumps(told.told()) if is_json else "\n".join(text_of(told)))
    return 0


def explanation_of(config: Config, url: str, method: str = "GET", lines: Sequence[str] = ()) -> Explanation:
    """What a server of this configuration says to a request. Raises UsageError."""
    request = request_of(url, method, lines)
    config = replace(config, memory=budget_of(config).bytes)
    store = Store(config.memory, slab_bytes=config.slab_bytes, small_body_bytes_max=config.small_body_bytes_max)
    with closing(store), ExitStack() as undo:
        sites = Sites(config, store, undo)
        hosts = Hosts([tenant.site for tenant in sites], refuses_unknown=config.unknown_host == "421")
        return Explainer(Parser(config), hosts.find, _OnDisk(sites), config.ranges_max).explain(request)


def text_of(told: Explanation) -> Iterator[str]:
    """The same in lines for people."""
    yield printable(f"{told.method} {told.target}" + (f" of {told.host}" if told.host else ""))
    rows = [
        ("site", f"{told.site or 'none'}: {told.site_why}" if told.site_why else ""),
        ("path", told.path),
        ("answer", told.answer),
        ("rule", told.rule),
        ("password", told.auth),
        ("file", told.file),
        ("variant", told.variant),
        ("condition", told.condition),
    ]
    yield from (f"{name:<10} {printable(text)}" for name, text in rows if text)
    for effect in told.effects:
        yield f"{'headers':<10} {printable(where_of(effect))}"
        for sign, fields in (("-", effect.taken), ("+", effect.given)):
            for name, value in fields:
                yield printable(f"{'':<10}   {sign} {name.decode('latin-1')}: {value.decode('latin-1')}")
    yield from (f"{'note':<10} {printable(note)}" for note in told.notes)
    if told.status:
        yield f"{'status':<10} {told.status}"
    yield from (printable(f"{'':<10} {name}: {value}") for name, value in told.fields)
