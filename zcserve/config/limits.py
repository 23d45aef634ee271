"""The limits: keys that say how much there may be of something, each with why it is what it is.

`Config` (table.py) has them besides its own keys. A limit has `why` and a unit, and `status`: what a client gets that
passes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from zcserve.config.option import COUNT, DURATION, LANES, SIZE
from zcserve.config.option import key as _key
from zcserve.config.units import DAY_S, GIB, KIB, MIB, PIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Every limit, validated by the `Config` that has them; sizes are bytes, times are seconds."""

    # Limits on clients.
    connections_max: int = _key(
        10_000,
        COUNT,
        "connections held open at once",
        why="bounds descriptors and kernel buffers; nginx ships 512 a worker, h2o 1024, Apache 400",
    )
    backlog: int = _key(
        1024,
        COUNT,
        "connections the kernel queues before they are accepted: one that has sent nothing waits there for a second",
        why="it must hold the burst of one turn; nginx, Apache and node ask for 511, uvicorn 2048; "
        "net.core.somaxconn cuts it",
    )
    head_bytes_max: int = _key(
        16 * KIB,
        SIZE,
        "a request's line and header fields together",
        status=431,
        why="node and h11 take 16 KiB, nginx four buffers of 8; RFC 6585 section 5",
    )
    head_fields_max: int = _key(
        100,
        COUNT,
        "header fields in a request",
        status=431,
        why="Apache's LimitRequestFields is 100, so is http.client's limit; RFC 6585 section 5",
    )
    target_bytes_max: int = _key(
        8 * KIB,
        SIZE,
        "a request's target",
        status=414,
        why="RFC 9112 section 3 asks for at least 8000; Apache takes a line of 8190, nginx one of 8 KiB",
    )
    body_bytes_max: int = _key(
        MIB,
        SIZE,
        "a request's body, read only to be thrown away",
        status=413,
        bounds=(0, PIB),
        why="keeps the connection in step, but not at any price; nginx's client_max_body_size is 1 MiB",
    )
    head_timeout_s: float = _key(
        20.0,
        DURATION,
        "time for a request's head to arrive, from its first byte",
        status=408,
        why="ends slow senders; Apache's mod_reqtimeout gives 20 s at first, nginx and node 60; "
        "RFC 9110 section 15.5.9",
    )
    body_timeout_s: float = _key(
        20.0,
        DURATION,
        "time for a request's body to arrive; one that is longer on its way keeps to --body-rate-min",
        status=408,
        why="ends slow senders; Apache's mod_reqtimeout gives 20 s at first, nginx 60 between two reads",
    )
    body_rate_min: int = _key(
        500,
        SIZE,
        "bytes of a body for each second, counted over every --body-timeout",
        status=408,
        bounds=(0, GIB),
        why="a byte now and then holds memory and a connection; Apache's MinRate is 500, Kestrel's 240",
    )
    idle_timeout_s: float = _key(
        75.0,
        DURATION,
        "time a connection may wait for its next request",
        why="an idle connection is cheap, a new one costs round trips; nginx 75 s, Apache and node 5",
    )
    write_timeout_s: float = _key(
        60.0,
        DURATION,
        "time a response may go without any progress",
        why="ends slow readers, not long downloads; nginx's send_timeout and Apache's TimeOut are 60 s",
    )
    linger_timeout_s: float = _key(
        2.0,
        DURATION,
        "time to read on after a connection's last answer has arrived, so that the client can read it",
        bounds=(0, DAY_S),
        why="RFC 9112 section 9.6; Apache's short linger is 2 s, nginx's timeout 5",
    )
    grace_s: float = _key(
        30.0,
        DURATION,
        "time that requests in flight are given at SIGTERM",
        bounds=(0, DAY_S),
        why="Kubernetes kills after 30 s; a graceful stop of nginx or Apache waits for ever unless told",
    )
    ranges_max: int = _key(
        16,
        COUNT,
        "ranges answered in one response; more get the whole file",
        bounds=(0, 1000),
        why="RFC 9110 section 14.2 lets a server ignore abuse (CVE-2011-3192); Apache's MaxRanges is 200",
    )
    wrong_passwords_max: int = _key(
        10,
        COUNT,
        "wrong passwords that a client (an address, or the /64 of an IPv6 address) may tell within "
        "--wrong-passwords-time; then none is checked; 0 for any number",
        status=429,
        bounds=(0, 1000),
        why="a guess takes a core for 0.1 s, and people are wrong a few times; fail2ban's maxretry is 5; "
        "RFC 6585 section 4",
    )
    wrong_passwords_time_s: float = _key(
        60.0,
        DURATION,
        "time for which a wrong password counts",
        status=429,
        bounds=(1, DAY_S),
        why="a person can wait for a minute, and all can that share an address; fail2ban's findtime is 10 min",
    )

    # Threads that answer what is in memory.
    lanes: int = _key(
        1,
        LANES,
        "loops that answer what is in memory, each a thread; auto for one for each core that the process may use",
        why="one answers more than most networks carry, and each that is busy takes a core; nginx has one worker "
        "unless told, h2o a thread for each core",
    )

    # Limits on one turn of the loop, so that no client starves another.
    pipeline_max: int = _key(
        64,
        COUNT,
        "requests, and chunks of their bodies, of one connection taken in one turn",
        why="no client starves behind a pipeliner; libuv leaves a stream after 32 reads",
    )
    turn_bytes_max: int = _key(
        MIB,
        SIZE,
        "bytes sent to one connection in one turn",
        bounds=(4 * KIB, GIB),
        why="no client starves behind a fast reader; nginx's sendfile_max_chunk is 2 MiB",
    )

    # Limits on content.
    loader_threads: int = _key(
        4,
        COUNT,
        "threads that read files for the loop",
        bounds=(1, 256),
        why="enough to keep a disk's queue filled; libuv's pool has 4, nginx's 32",
    )
    load_timeout_s: float = _key(
        20.0,
        DURATION,
        "time a file that is not in memory may be read without any progress",
        status=503,
        why="ends waiting for file systems that hang; a disk that sleeps is up in 10 s, a proxy in front waits for 60",
    )
    small_body_bytes_max: int = _key(
        16 * KIB,
        SIZE,
        "a body packed into a slab and sent by copy; larger ones go by sendfile",
        bounds=(0, 16 * MIB),
        why="measured: a copy costs no more up to about 16 KiB, far more at 64",
    )
    slab_bytes: int = _key(
        32 * MIB,
        SIZE,
        "one slab of small bodies",
        bounds=(64 * KIB, GIB),
        why="one mapping for thousands of files (vm.max_map_count is 65530); memcached's page is 1 MiB",
    )
    hash_bytes_max: int = _key(
        256 * MIB,
        SIZE,
        "a file tagged by its content; a larger one by its identity",
        bounds=(0, PIB),
        why="about 50 ms at 5 GB/s; nginx and Apache tag every file by its time and size",
    )
    compress_bytes_min: int = _key(
        KIB,
        SIZE,
        "the smallest file that --compress makes variants of",
        bounds=(0, PIB),
        why="less is one packet either way; express begins at 1 KiB, nginx's gzip_min_length is 20 bytes",
    )

    compress_wait_s: float = _key(
        5.0,
        DURATION,
        "time that a start or a reload waits for --compress; variants that are not made by then follow while it serves",
        bounds=(0, DAY_S),
        why="a small site has all its variants at its first answer, and no site is away for longer; "
        "brotli makes 1 MB a second, systemd waits for 90 s",
    )

    # Limits on servlets and mounted applications.
    servlet_body_bytes_max: int = _key(
        8 * MIB,
        SIZE,
        "a request's body that is read for a servlet or an application",
        status=413,
        bounds=(0, GIB),
        why="it is held in memory, whole; nginx takes 1 MiB, Django 2.5 besides files, IIS 28.6",
    )
    servlet_bodies_max: int = _key(
        0,
        SIZE,
        "all bodies together that are held for servlets and applications; 0 for a quarter of --memory",
        status=503,
        bounds=(0, PIB),
        why="many clients at once must not take more memory than the content; nginx and Apache spool to disk",
    )
    servlet_threads: int = _key(
        16,
        COUNT,
        "threads for servlets with thread=True and for WSGI applications",
        bounds=(1, 1024),
        why="they wait more than they work; Python's own pool takes 4 more than there are cores, anyio 40",
    )
    servlet_queue_max: int = _key(
        1024,
        COUNT,
        "requests that wait for such a thread, and for one result of a servlet with a ttl",
        status=503,
        why="a client that would give up before its turn is told at once; uvicorn's backlog is 2048",
    )
    servlet_slow_s: float = _key(
        0.1,
        DURATION,
        "time a servlet may hold the loop before the log names it, with its stack",
        why="no client is served meanwhile; asyncio's slow_callback_duration is 0.1 s",
    )
    app_timeout_s: float = _key(
        0.0,
        DURATION,
        "time an application or a servlet may take for its answer, and for each piece of a stream; 0 for any",
        status=504,
        bounds=(0, DAY_S),
        why="a long poll or a stream of events is silent for as long as it likes; gunicorn's timeout is 30 s",
    )
    servlet_result_timeout_s: float = _key(
        30.0,
        DURATION,
        "time that the call of a servlet with a ttl may take",
        status=504,
        why="a call that hangs must not gather requests; gunicorn gives a worker 30 s, nginx's proxy_read_timeout 60",
    )
    servlet_results_max: int = _key(
        10_000,
        COUNT,
        "results of servlets with a ttl kept at once; more are answered and not kept",
        why="a query makes a result of its own, and clients choose queries",
    )
