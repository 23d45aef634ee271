"""A snapshot as metrics: the text format of Prometheus (0.0.4), or OpenMetrics 1.0, whichever a scraper likes better.

`FAMILIES` is the table of all that there are: a name, a kind, what it says, and where the snapshot has it. What the
snapshot does not have (no servlets; what clients have, while the node starts) has no samples, and a family without
samples is left out. A label's values are known beforehand: no client chooses one.

https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from math import inf, isinf, isnan
from typing import Any, Literal, NamedTuple, TypeAlias

from zcserve.admin.snapshot import CURVE_SHARES, Told
from zcserve.net.shortage import CONNECTIONS, DESCRIPTORS, QUESTIONS

TEXT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
_OPENMETRICS = "application/openmetrics-text"

Labels: TypeAlias = tuple[tuple[str, str], ...]
# A number; of a histogram what `snapshot.histogram` makes of it.
Sample: TypeAlias = tuple[Labels, Any]
Kind: TypeAlias = Literal["counter", "gauge", "histogram"]


class Family(NamedTuple):
    """Metrics of one name. It ends with the `unit`, if there is one; that of a counter is without `_total` here."""

    name: str
    kind: Kind
    help: str
    samples: Callable[[Told], Iterable[Sample]]
    unit: str = ""


# --- where the snapshot has it ------------------------------------------------------------------------------------


def _at(told: Any, path: str) -> Any:
    for key in path.split("."):
        told = told.get(key) if told is not None else None
    return told


def _value(path: str) -> Callable[[Told], Iterator[Sample]]:
    def samples(told: Told) -> Iterator[Sample]:
        value = _at(told, path)
        if value is not None:
            yield (), value

    return samples


def _counted(key: str, whole: str) -> Callable[[Told], Iterator[Sample]]:
    """What is counted of clients: of each site, where there have been several."""
    all_of_it = _value(whole)

    def samples(told: Told) -> Iterator[Sample]:
        by_site = _at(told, "requests.by_site")
        if by_site is None:
            yield from all_of_it(told)
        for one in by_site or ():
            yield (("site", one["site"]),), one[key]

    return samples


def _by_site(path: str) -> Callable[[Told], Iterator[Sample]]:
    """Of each site, where there are several and it is known by site."""
    whole = _value(path)

    def samples(told: Told) -> Iterator[Sample]:
        sites = told["sites"]
        known = [((("site", one["name"]),), value) for one in sites if (value := _at(one, path)) is not None]
        yield from known if known and len(sites) > 1 else whole(told)

    return samples


def _each(path: str, label: str, *, always: tuple[str, ...] = ()) -> Callable[[Told], Iterator[Sample]]:
    """Of an object with a number at each key; at those that are `always` told, 0 where there is none."""

    def samples(told: Told) -> Iterator[Sample]:
        found = _at(told, path)
        if found is not None:
            for key, value in (dict.fromkeys(always, 0) | found).items():
                yield ((label, str(key)),), value

    return samples


def _build(told: Told) -> Iterator[Sample]:
    yield (("version", told["zcserve"]), ("engine", told["engine"]), ("python", told["python"]["version"])), 1


PHASES = ("starting", "warming", "incomplete", "ready", "draining")


def _phase(told: Told) -> Iterator[Sample]:
    for phase in PHASES:
        yield (("phase", phase),), told["ready"]["phase"] == phase


def _requests(told: Told) -> Iterator[Sample]:
    by_site = _at(told, "requests.by_site")
    if by_site is None:
        by_site = [{"by": _at(told, "requests.by") or ()}]
    for site in by_site:
        label = (("site", site["site"]),) if "site" in site else ()
        for one in site["by"]:
            yield (("code", str(one["code"])), ("method", one["method"]), *label), one["total"]


def _curve(told: Told) -> Iterator[Sample]:
    for share, point in zip(CURVE_SHARES, _at(told, "cache.curve") or (), strict=False):
        yield (("budget_share", f"{share:g}"),), point["hit_ratio"]


def _lanes(key: str) -> Callable[[Told], Iterator[Sample]]:
    def samples(told: Told) -> Iterator[Sample]:
        for one in told["lanes_detail"]:
            yield (("lane", str(one["lane"])),), one[key]

    return samples


def _collections(told: Told) -> Iterator[Sample]:
    for generation, count in enumerate(told["python"]["gc_collections"]):
        yield (("generation", str(generation)),), count


def _queues(told: Told) -> Iterator[Sample]:
    queues = told["queues"]
    if queues is not None:
        for name in ("loads", "calls", "servlets"):
            yield (("queue", name),), queues[f"{name}_waiting"]


# --- what there is ------------------------------------------------------------------------------------------------

# What room may be short of.
_SHORT_OF = (CONNECTIONS, DESCRIPTORS)

FAMILIES = (
    Family("zcserve_build_info", "gauge", "Version of zcserve and of Python, and the engine in use; always 1.", _build),
    Family("zcserve_lanes", "gauge", "Loops that answer clients.", _value("lanes")),
    Family("zcserve_ready", "gauge", "Whether the node is to be asked, as /readyz tells.", _value("ready.is_ready")),
    Family("zcserve_phase", "gauge", "1 for the phase that the node is in, and 0 for the others.", _phase),
    Family(
        "zcserve_ready_ratio",
        "gauge",
        "Share of the wanted bytes (pinned and preloaded) that are resident.",
        _value("ready.share"),
        "ratio",
    ),
    Family(
        "zcserve_ready_wanted_bytes",
        "gauge",
        "Content that is to be resident before the node is ready.",
        _value("ready.wanted_bytes"),
        "bytes",
    ),
    # Clients.
    Family("zcserve_http_requests", "counter", "Requests that were answered, by status and method.", _requests),
    Family(
        "zcserve_http_response_bytes",
        "counter",
        "Bytes sent to clients, heads and content.",
        _counted("response_bytes_total", "requests.response_bytes_total"),
        "bytes",
    ),
    Family(
        "zcserve_http_request_duration_seconds",
        "histogram",
        "Time from a request's first byte to its answer's last. What is answered at once is sampled.",
        _value("requests.duration_s"),
        "seconds",
    ),
    Family(
        "zcserve_http_slow_requests",
        "counter",
        "Requests that took as long as --slow-log says; the log has told of the slowest of them.",
        _value("requests.slow_total"),
    ),
    Family("zcserve_connections", "gauge", "Connections of clients, by state.", _each("connections.by_state", "state")),
    Family("zcserve_connections_limit", "gauge", "Connections that there may be.", _value("connections.max")),
    Family(
        "zcserve_connections_accepted",
        "counter",
        "Connections that were accepted.",
        _value("connections.accepted_total"),
    ),
    Family(
        "zcserve_connections_shed",
        "counter",
        "Idle connections that were closed to make room, by what was short.",
        _each("connections.shed_total", "reason", always=_SHORT_OF),
    ),
    Family(
        "zcserve_connections_refused",
        "counter",
        "Clients and requests that were answered with 503 for want of room, by what was short.",
        _each("connections.refused_total", "reason", always=(*_SHORT_OF, QUESTIONS)),
    ),
    Family(
        "zcserve_connections_waits",
        "counter",
        "Times when new clients were left in the queue of the kernel, by what was short.",
        _each("connections.waits_total", "reason", always=_SHORT_OF),
    ),
    Family(
        "zcserve_password_verdicts",
        "counter",
        "Requests whose password was not remembered, by what came of it: right, wrong; busy and limited: not checked.",
        _each("passwords.verdicts_total", "verdict"),
    ),
    Family("zcserve_lane_connections", "gauge", "Connections of each lane.", _lanes("connections")),
    Family("zcserve_lane_requests", "counter", "Requests that each lane has answered.", _lanes("requests_total")),
    # Content.
    Family(
        "zcserve_cache_hits",
        "counter",
        "Answers made of files that were at hand.",
        _counted("hits_total", "cache.hits_total"),
    ),
    Family(
        "zcserve_cache_misses",
        "counter",
        "Answers made of files that a load brought.",
        _counted("misses_total", "cache.misses_total"),
    ),
    Family("zcserve_cache_loads", "counter", "Loads of content after the start.", _value("cache.loads_total")),
    Family("zcserve_cache_evictions", "counter", "Bodies that were evicted.", _value("cache.evictions_total")),
    Family(
        "zcserve_cache_compactions",
        "counter",
        "Bodies that were moved to close holes in memory.",
        _value("cache.compactions_total"),
    ),
    Family(
        "zcserve_cache_resident_bytes",
        "gauge",
        "Memory that content takes, in whole pages.",
        _value("cache.resident_bytes"),
        "bytes",
    ),
    Family(
        "zcserve_cache_index_bytes",
        "gauge",
        "Memory that the index takes of the budget.",
        _value("cache.index_bytes"),
        "bytes",
    ),
    Family(
        "zcserve_cache_budget_bytes",
        "gauge",
        "Memory that content and index may take.",
        _value("cache.budget_bytes"),
        "bytes",
    ),
    Family(
        "zcserve_cache_pinned_bytes",
        "gauge",
        "Memory of what is never evicted.",
        _value("cache.pinned_bytes"),
        "bytes",
    ),
    Family("zcserve_cache_entries", "gauge", "Representations that are resident.", _value("cache.entries")),
    Family(
        "zcserve_cache_predicted_hit_ratio",
        "gauge",
        "Hit ratio with this share of the present memory budget, as far as it is known; told once there are misses.",
        _curve,
        "ratio",
    ),
    Family(
        "zcserve_site_resident_bytes",
        "gauge",
        "Content of each site that is resident, where there are several; some seconds old.",
        _by_site("resident_bytes"),
        "bytes",
    ),
    Family(
        "zcserve_generation_number",
        "gauge",
        "Number of the live generation since the start.",
        _by_site("generation.number"),
    ),
    Family(
        "zcserve_generation_age_seconds",
        "gauge",
        "Time since the live generation came.",
        _by_site("generation.age_s"),
        "seconds",
    ),
    Family("zcserve_generation_files", "gauge", "Files that it was loaded with.", _by_site("generation.files")),
    Family(
        "zcserve_generation_files_left_out",
        "gauge",
        "Representations that were not resident when it was loaded.",
        _by_site("generation.left_out"),
    ),
    Family("zcserve_generation_paths", "gauge", "Paths that lead somewhere.", _by_site("generation.paths")),
    Family(
        "zcserve_generation_problems",
        "gauge",
        "Files that are not served as they lie on disk.",
        _by_site("generation.problems"),
    ),
    Family("zcserve_generations_kept", "gauge", "Older generations still reachable.", _by_site("generation.kept")),
    Family(
        "zcserve_prepared_share",
        "gauge",
        "Of the prepared release the share that was resident when it was prepared; absent where none is.",
        _by_site("prepared.share"),
    ),
    Family("zcserve_reloads", "counter", "Generations that replaced another.", _by_site("generation.reloads_total")),
    Family("zcserve_patches", "counter", "Changes laid over a generation.", _by_site("generation.patches_total")),
    Family(
        "zcserve_content_failures",
        "counter",
        "Reloads and patches that failed; the old content went on.",
        _by_site("generation.failures_total"),
    ),
    Family("zcserve_watcher_events", "counter", "Events of watched directories.", _by_site("watcher.events_total")),
    Family(
        "zcserve_watcher_rescans",
        "counter",
        "Walks of everything because events were lost, or a patch failed.",
        _by_site("watcher.rescans_total"),
    ),
    # What does it.
    Family(
        "zcserve_loop_lag_seconds",
        "histogram",
        "Duration of turns of the loop of Python: what comes meanwhile waits for the end of the turn.",
        _value("loop.lag_s"),
        "seconds",
    ),
    Family("zcserve_queue_length", "gauge", "Requests that wait for a thread, or for a turn, by queue.", _queues),
    Family(
        "zcserve_request_bodies_bytes", "gauge", "Bodies of requests in memory.", _value("queues.bodies_bytes"), "bytes"
    ),
    Family(
        "zcserve_request_bodies_limit_bytes",
        "gauge",
        "Memory that bodies of requests may take.",
        _value("queues.bodies_max_bytes"),
        "bytes",
    ),
    Family(
        "zcserve_servlet_calls",
        "counter",
        "Calls of servlets and mounted applications.",
        _value("servlets.calls_total"),
    ),
    Family(
        "zcserve_servlet_errors",
        "counter",
        "Failures of servlets and mounted applications that are in the log.",
        _value("servlets.errors_total"),
    ),
    Family(
        "zcserve_servlet_duration_seconds",
        "histogram",
        "Duration of calls of servlets and applications, to the beginning of the answer, with the wait for a thread.",
        _value("servlets.duration_s"),
        "seconds",
    ),
    Family(
        "zcserve_log_lines_dropped",
        "counter",
        "Lines of the access log and of the own log that were lost.",
        _each("log.dropped_by", "log"),
    ),
    Family(
        "zcserve_log_lines_left_out",
        "counter",
        "Lines of the access log that were not written because others stand for them (--access-log-sample).",
        _value("log.left_out_lines_total"),
    ),
    # The process, under the names that clients of Prometheus use.
    Family("process_cpu_seconds", "counter", "CPU time, of user and system.", _value("process.cpu_s"), "seconds"),
    Family(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory, content among it.",
        _value("process.resident_memory_bytes"),
        "bytes",
    ),
    Family("process_open_fds", "gauge", "Open descriptors.", _value("process.open_fds")),
    Family("process_max_fds", "gauge", "Descriptors that may be open.", _value("process.max_fds")),
    Family("process_threads", "gauge", "Threads of Python and of the server.", _value("process.threads")),
    Family(
        "process_start_time_seconds",
        "gauge",
        "When the process started, since 1970.",
        _value("process.start_time"),
        "seconds",
    ),
    Family("python_gc_collections", "counter", "Collections of garbage, by generation.", _collections),
)


# --- as text ------------------------------------------------------------------------------------------------------


def text_of(told: Told, *, is_open: bool = False, families: Iterable[Family] = FAMILIES) -> bytes:
    """A snapshot in the text format; in OpenMetrics, if `is_open`."""
    lines: list[str] = []
    for family in families:
        if samples := list(family.samples(told)):
            name = family.name if is_open or family.kind != "counter" else f"{family.name}_total"
            lines += (f"# HELP {name} {_escaped(family.help)}", f"# TYPE {name} {family.kind}")
            if is_open and family.unit:
                lines.append(f"# UNIT {name} {family.unit}")
            for labels, value in samples:
                lines += _lines(family, labels, value)
    if is_open:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")


def _lines(family: Family, labels: Labels, value: Any) -> Iterator[str]:
    if family.kind == "histogram":
        bounds = (*value["bounds"], inf)
        for bound, count in zip(bounds, accumulate(value["counts"]), strict=True):
            yield f"{family.name}_bucket{_braced((*labels, ('le', _number(float(bound)))))} {_number(count)}"
        yield f"{family.name}_count{_braced(labels)} {_number(value['count'])}"
        yield f"{family.name}_sum{_braced(labels)} {_number(value['sum'])}"
    else:
        total = "_total" if family.kind == "counter" else ""
        yield f"{family.name}{total}{_braced(labels)} {_number(value)}"


def _braced(labels: Labels) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value).replace(chr(34), chr(92) + chr(34))}"' for name, value in labels)
    return "{" + ",".join(pairs) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))  # a bool is one, too
    if isnan(value):
        return "NaN"
    return repr(value) if not isinf(value) else "+Inf" if value > 0 else "-Inf"


def prefers_openmetrics(accept: str) -> bool:
    """Whether an Accept field (RFC 9110 section 12.5.1) names OpenMetrics, and likes plain text no better. What is
    malformed in it counts for nothing."""
    open_weight = text_weight = 0.0
    for element in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in element.split(";"))
        weight = _weight(parameters)
        if kind == _OPENMETRICS:
            open_weight = max(open_weight, weight)
        elif kind in ("text/plain", "text/*"):
            text_weight = max(text_weight, weight)
    return open_weight > 0 and open_weight >= text_weight


def _weight(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0 <= weight <= 1 else 0.0
    return 1.0
