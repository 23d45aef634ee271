"""`--check`: look at the configuration and the root as a start would, say what would be, and serve nothing.
Nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from itertools import filterfalse

from zcserve.cache.budget import budget_of, eaten
from zcserve.cache.entry import Entry, representations
from zcserve.cache.heat import Heat
from zcserve.cache.listing import Listing
from zcserve.cache.loader import Loader
from zcserve.cache.pinned import Pinned
from zcserve.cache.preload import Plan, cost_of, hottest_first, in_rounds, judge_siblings
from zcserve.cache.preload import try_to_open as try_to_open_files
from zcserve.cache.root import RootError
from zcserve.cache.ruled import open_root
from zcserve.cache.store import Store
from zcserve.cache.walk import walk
from zcserve.config.keys import of_no_use
from zcserve.config.site import ALL, SiteTable, check_shares, memory_of
from zcserve.config.sites import configs_of
from zcserve.config.table import Config
from zcserve.config.units import counted, size_text
from zcserve.content.heat_file import HeatFile, Kept
from zcserve.content.missed import doubts_about_rules, idle_pin, missed_by_rules
from zcserve.content.told import report_problems
from zcserve.errors import UsageError, reason_of
from zcserve.log import Log, await_out, printable
from zcserve.net.access_log import try_to_open
from zcserve.net.engine import lanes_of
from zcserve.rules.book import Rulebook
from zcserve.rules.compiled import Nowhere

_log = Log(__name__)


def check(config: Config) -> int:
    """Validate the root, say what would be resident, and what does not work. The exit code: 1 where something does
    not load, or the access log cannot be written. Raises UsageError."""
    lanes = lanes_of(config)  # raises where a start would
    for line in of_no_use(config):
        _log.warning("%s", line)
    budget = budget_of(config)
    config = replace(config, memory=budget.bytes)
    if budget.warning:
        _log.warning("%s", budget.warning)
    check_shares(config.sites, config.memory)
    sites = configs_of(config)
    memory = memory_of(config.sites, config.memory)
    pins = {name: Pinned(own.pin) for name, own in sites.items()}
    tables = {table.name: table for table in config.sites}
    with closing(_store_of(config)) as store:
        for name in sites:
            if memory[name] != ALL:
                store.shares.set(pins[name], *memory[name])
        taken = 0  # bytes of the sites before
        nowhere: dict[str, Nowhere] = {}
        heat = _heat_of(config, sites)
        for number, (name, own) in enumerate(sites.items()):
            try:
                label = "" if len(sites) == 1 else f"site {name}: "
                taken, nowhere[name] = _check_content(label, own, store, number, pins[name], heat[name], taken)
            except UsageError as error:
                where = tables.get(name, own)
                if isinstance(error, RootError):
                    raise where.refuse_root(error) from None
                raise (where.refuse(error) if isinstance(where, SiteTable) else error) from None
    _say(f"lanes: {lanes}")
    faults = [fault for name, own in sites.items() for fault in _check_applications(own, nowhere[name])]
    faults += _check_logs(config)
    _say("configuration is not valid" if faults else "configuration is valid")
    return 1 if faults else 0


def _heat_of(config: Config, sites: Mapping[str, Config]) -> dict[str, Heat]:
    """How hot the files of each site are by --heat-file."""
    heat = {name: Heat() for name in sites}
    if config.heat_file:
        file = HeatFile(config.heat_file)
        file.read(Kept(name, own.directory, heat[name]) for name, own in sites.items())
        if why := file.fault():
            _log.warning("heat_file: %r cannot be written: %s", config.heat_file, why)
    return heat


def _store_of(config: Config) -> Store:
    return Store(config.memory, slab_bytes=config.slab_bytes, small_body_bytes_max=config.small_body_bytes_max)


def _check_content(
    label: str, config: Config, store: Store, site: int, pinned: Pinned, heat: Heat, before: int
) -> tuple[int, Nowhere]:
    """Look at a site, of which lines begin with `label`, and whose files are so hot; the bytes that the sites `before`
    and this one would take, and what tells of its rewrites."""
    book = Rulebook(config)
    root = open_root(config.directory, book, site)
    generation = walk(root, index=config.index)
    warned = (*book.told, *root.rules.findings(generation.has_file), *missed_by_rules(generation, config))
    for line in (*warned, *doubts_about_rules(generation, config)):
        _log.warning("%s%s", label, line)
    try_to_open_files(generation)
    store.count_index(site, generation.index_bytes)
    loader = Loader(store, config)
    entries = list(generation.entries())
    judge_siblings(generation, loader, entries)
    report_problems(generation.problems)
    for glob in pinned.newly_idle(generation):
        _log.warning("%s%s", label, idle_pin(config, glob))
    found = [one for entry in entries for one in representations(entry)]
    first = list(filter(pinned, entries))
    rounds = [first, *in_rounds(root.rules, list(filterfalse(pinned, entries)))]
    taken = _taken(rounds, store, pinned, heat, before)
    left_out = len(found) - len(taken)
    _say(f"{label}root {printable(str(config.directory))}: {_counted(found)}")
    _say(f"would be resident: {_counted(taken)} of a budget of {size_text(config.memory)}; {left_out} stay out")
    files = sum(not one.encoding for one in found)  # as the server counts them
    if left_out and (told := eaten(store, files, _bytes(found))):
        _say(told)
    if root.rules.has_listings:
        listed = sum(isinstance(one, Listing) for one in generation.resources.values())
        _say(f"listings: {counted(listed, 'directory', 'directories')} without an index")
    if config.compress:
        coded = [entry for entry in entries if loader.codings.may_apply(entry)]
        _say(f"compress: {_counted(coded)}, would get variants besides")
    _say(f"not served as they lie there: {len(generation.problems)}")
    return before + _cost(taken, store), lambda has: [
        label + line for line in root.rules.nowhere(generation.has_file, has)
    ]


def _cost(taken: Sequence[Entry], store: Store) -> int:
    return sum(cost_of(one.size, store) for one in taken)


def _taken(rounds: Iterable[list[Entry]], store: Store, pinned: Pinned, heat: Heat, before: int) -> list[Entry]:
    """What would be resident beside so many bytes: of each round what then fits."""
    taken: list[Entry] = []

    def reserved() -> int:
        return before + _cost(taken, store)

    for found in (some for one in rounds for some in hottest_first(one, heat, store, pinned, reserved())):
        wanted = Plan(found, store, reserved(), is_pinned=pinned)
        more = [one for entry in found for one in representations(entry) if wanted.takes(one)]
        store.shares.of_site(pinned).bytes += _cost(more, store)  # as if they were
        taken += more
    return taken


def _check_logs(config: Config) -> list[str]:
    """Whether the access logs could be written, a line for each that could not."""
    fault = _fault_of_log(config.access_log)
    own = [config.places.get("access_log", "") + fault if fault else ""]
    own += [
        str(table.refuse(UsageError(fault), "access_log"))
        for table in config.sites
        if (fault := _fault_of_log(table.values.get("access_log", "")))
    ]
    faults = list(filter(None, own))
    for fault in faults:
        _say(printable(fault))
    return faults


def _fault_of_log(path: str) -> str:
    try:
        try_to_open(path or "-")
    except OSError as error:
        return f"access_log: {path!r} cannot be opened: {reason_of(error)}"
    return ""


def _check_applications(config: Config, nowhere: Nowhere) -> list[str]:
    """What of them does not load, a line each; `nowhere` tells of rewrites that lead to nothing that they have."""
    if not (config.servlets or config.mount):
        _warn(nowhere(lambda key, query: False))
        return []
    from zcserve.servlets.checking import check as check_servlets  # late: most sites have none

    try:
        told, faults, missed = check_servlets(config, nowhere)
    except UsageError as error:
        raise config.placed(error) from None
    _warn(missed)
    _say(f"servlets: {told}")
    for fault in faults:
        _say(f"does not load: {printable(fault)}")
    return faults


def _say(line: str) -> None:
    """Print a line, behind the warnings before it."""
    await_out()
    with suppress(OSError):  # as `zcserve check | head`
        print(line, flush=True)


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        _log.warning("%s", line)


def _bytes(found: Sequence[Entry]) -> int:
    return sum(one.size for one in found)


def _counted(found: Sequence[Entry]) -> str:
    """How many files they are, and how large."""
    variants = sum(bool(one.encoding) for one in found)
    beside = f" with {counted(variants, 'variant')}" if variants else ""
    return f"{counted(len(found) - variants, 'file')}{beside}, {size_text(_bytes(found))}"
