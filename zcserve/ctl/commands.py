"""What there is to say to a node: views and verbs, and the flags of each. Data alone.

A verb's flags are made from its words (admin/words.py): a switch for what is true or false, a flag with a value for the
rest, and for each choice of a word a flag of its own, too (`--mode hard` is `--hard`). One word may be an operand, and
what may be null has a flag that says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from zcserve.admin.words import EXPLAIN as EXPLAINED
from zcserve.admin.words import HEAT as WARM
from zcserve.admin.words import LOG_LEVELS, WORDINGS, Word, Wording

# The commands that stand first in a command line. What else stands there is a directory to serve.
PROGRAMS = {
    "ctl": "ask a node, and tell it: zcserve ctl [COMMAND]",
    "top": "live numbers of a node in a terminal",
    "check": "check configuration and root, say what would be resident: zcserve check [ROOT]",
    "explain": "say what a request is answered with, and why: zcserve explain URL",
    "node": "the agent of a node, which brings releases to the server beside it: zcserve node --site NAME ...",
    "passwd": "print a line for a file of users: zcserve passwd NAME",
    "completion": "print a script that completes these: zcserve completion bash|zsh|fish",
}
SHELLS = ("bash", "zsh", "fish")

# How long an answer may take. A purge or a list to warm may be of a million files.
VIEW_TIMEOUT_S = 10.0
VERB_TIMEOUT_S = 3600.0


class Flag(NamedTuple):
    """A flag, and whose value it gives.

    metavar  what its value is called; "": it has none, and means `value`
    """

    flag: str
    word: str
    help: str
    metavar: str = ""
    value: Any = True
    type: type = str
    choices: tuple[str, ...] = ()
    is_repeatable: bool = False


class Command(NamedTuple):
    """`zcserve ctl NAME`: a view at `path`, whose query has the words of `wording`, if there is one; or the verb that
    it words.

    is_view    whether it is a view
    timeout_s  how long an answer may take, unless told; inf: as long as it takes
    is_lines   whether its answer is lines of JSON, of which those with a path are for people
    """

    name: str
    help: str
    path: str
    wording: Wording | None = None
    timeout_s: float = VIEW_TIMEOUT_S
    is_view: bool = True
    is_lines: bool = False

    def flags(self) -> tuple[Flag, ...]:
        """Those that it has beside COMMON."""
        if self.wording is None:
            return ()
        found: dict[str, Flag] = {}
        for name, word in self.wording.words.items():
            for flag in _flags_of(name, word):
                found.setdefault(flag.flag, flag)
        return tuple(found.values())

    def operand(self) -> tuple[str, Word] | None:
        """The word that is given without a flag, and its name."""
        words = self.wording.words.items() if self.wording is not None else ()
        return next(((name, word) for name, word in words if word.operand), None)


WHERE = (
    Flag(
        "--admin", "admin", "where the node listens to its operator: unix:PATH or HOST:PORT (ZCSERVE_ADMIN)", "ADDRESS"
    ),
    Flag("--token-file", "token_file", "the first line of this file is the token (ZCSERVE_ADMIN_TOKEN_FILE)", "FILE"),
    Flag("--config", "config", "take both from this file's admin and admin_token_file (ZCSERVE_CONFIG)", "FILE"),
)
HELP = (Flag("--help", "help", "print this"), Flag("-h", "help", "print this"))
COMMON = (
    *WHERE,
    Flag("--timeout", "timeout", "give up after this long: 500ms, 10s, 5m", "TIME"),
    Flag("--json", "json", "print JSON, for programs"),
    *HELP,
)
TOP = (
    *WHERE,
    Flag("--every", "every", "how often the numbers change (default 1s)", "TIME"),
    Flag("--once", "once", "print one frame and end, as where standard output is no terminal"),
    *HELP,
)

# Beside the server's own.
EXPLAIN = (
    Flag("-H", "header", "a header field of the request, repeatable: 'Name: value'", "LINE", is_repeatable=True),
    Flag("--header", "header", "the same as -H", "LINE", is_repeatable=True),
    Flag("-X", "method", "the request's method (default GET)", "METHOD"),
    Flag("--method", "method", "the same as -X", "METHOD"),
    Flag("--json", "json", "print JSON, for programs"),
)

# Of the agent. What carries releases to it is --nats or --listen.
NODE = (
    Flag("--site", "site", "the site, as its releases name it", "NAME"),
    Flag("--node", "node", "this node, by a name that no other node of the site has", "ID"),
    Flag(
        "--nats",
        "nats",
        "NATS carries commands and states: nats://HOST:PORT or tls://HOST:PORT, several with commas",
        "URL",
    ),
    Flag("--nats-creds", "nats_creds", "a user's JWT and its seed, as nsc writes them", "FILE"),
    Flag("--nats-password-file", "nats_password_file", "the password of the user that the URL names", "FILE"),
    Flag("--nats-ca", "nats_ca", "certificates (PEM) that NATS's own is signed by", "FILE"),
    Flag("--nats-cert", "nats_cert", "this node's own certificate (PEM)", "FILE"),
    Flag("--nats-key", "nats_key", "and its key", "FILE"),
    Flag("--nats-replicas", "nats_replicas", "of streams that are made here (default 1)", "N", type=int),
    Flag("--listen", "listen", "or the operator comes here: HOST:PORT", "ADDRESS"),
    Flag("--token-file", "token_file", "the operator shows the first line of this file", "FILE"),
    Flag("--nodes", "nodes", "and the other nodes are asked what was missed: a line a node, NAME URL", "FILE"),
    Flag("--server", "server", "the admin listener of the server: unix:PATH or HOST:PORT", "ADDRESS"),
    Flag("--server-token-file", "server_token_file", "the first line of this file is its token", "FILE"),
    Flag("--releases", "releases", "where release folders lie; the server's root is DIR/current", "DIR"),
    Flag("--keys", "keys", "a public key, or a directory of NAME.pub; repeatable", "PATH", is_repeatable=True),
    Flag("--source", "source", "where files come from, whatever a release says", "URL"),
    Flag("--keep", "keep", "release folders that stay beside those in use (default 3)", "N", type=int),
    Flag("--keep-for", "keep_for", "and for how long at most (default 168h)", "TIME"),
    Flag(
        "--behind",
        "behind",
        "a server more than one release behind gets no clients (/readyz says 503), or is ready (default unready)",
        "unready|ready",
        choices=("unready", "ready"),
    ),
    Flag("--rate", "rate", "bytes a second from the source at most: 10M", "SIZE"),
    Flag("--log-level", "log_level", "debug, info, warning or error (default info)", "LEVEL", choices=LOG_LEVELS),
    *HELP,
)

LIVE = Command("live", "is the process alive?", "/livez")
READY = Command("ready", "is it to be asked? The exit code says: 0 is yes, 1 is no", "/readyz")
WAIT = Command("wait", "wait until it is ready, and tell how far it is", "/warmz", None, float("inf"))
STATS = Command("stats", "all numbers, once", "/stats")
METRICS = Command("metrics", "the numbers as Prometheus reads them", "/metrics")
EXPLAINING = Command("explain", EXPLAINED.help, "/explain", EXPLAINED)
HEAT = Command("heat", WARM.help, "/heat", WARM, 60.0, is_lines=True)
VIEWS = (LIVE, READY, WAIT, STATS, METRICS, EXPLAINING, HEAT)


def verb(wording: Wording) -> Command:
    """The command that says it."""
    return Command(wording.name, wording.help, "/" + wording.name, wording, VERB_TIMEOUT_S, is_view=False)


COMMANDS = {command.name: command for command in (*VIEWS, *map(verb, WORDINGS))}


def _flags_of(name: str, word: Word) -> Iterator[Flag]:
    flag = "--" + name.replace("_", "-")
    if word.null:
        yield Flag("--" + word.null, name, word.null_help, value=None)
    if word.operand:
        return
    if word.type is bool:
        off = word.default is True
        yield Flag("--no-" + flag[2:] if off else flag, name, word.help, value=not off)
        return
    metavar = "|".join(word.choices) or _METAVARS[word.type]
    item = str if word.type is list else word.type
    yield Flag(flag, name, word.help, metavar, None, item, word.choices, is_repeatable=word.type is list)
    for choice in word.choices:
        yield Flag("--" + choice, name, f"the same as {flag} {choice}", value=choice)


_METAVARS = {str: "TEXT", int: "N", float: "NUMBER", list: "TEXT"}
