"""The log, which nothing from outside can forge, and no application can silence.

A log line names what comes from outside: paths of files, targets, header values, what an exception says.

- `Log`: no value in a message of zcserve's has a control character. A line end, an ANSI escape, half a surrogate pair
  appear as Python escapes them (`\\n`, `\\x1b`). Only a `Block` (a stack, a traceback) has several lines. This holds
  whichever handler writes the record.
- `Formatter`: a blank begins each line of a record but its first. So a line that does not begin with a blank begins a
  record, whatever an exception says in its traceback. It escapes what other loggers say, too: mounted applications have
  their own.

There are two ways out. In a program that uses zcserve as a library the records go to `logging`, like any others. In a
process that is the server's alone (`to_stderr`) they go to a queue and a copy of descriptor 2, and `logging` does not
see them: an application may switch off loggers, disable levels, take handlers away, replace sys.stderr or close it.
What other loggers say goes into the same queue by a handler of the root logger, as does what is printed to sys.stderr.
So a reader of standard error that has stopped stops nothing here (outlet.py). Where that is systemd's journal, each
line has its level (journal.py); what is printed counts as information.

The access log has a format of its own: net/access_log.py.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from zcserve import threads
from zcserve.errors import NoThreadError, words_of
from zcserve.journal import Gathering, is_journal, marked
from zcserve.outlet import LineWriter, Outlet

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ExcInfo: TypeAlias = (
    "bool | tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None] "
    "| BaseException | None"
)

# So many bytes of lines wait for a reader of standard error: some thousand lines.
WAITING_MAX = 256 * 1024

# So long the end waits at most for readers of the last lines, and of what applications have printed.
OUT_WITHIN_S = 1.0
PRINTS_OUT_WITHIN_S = 0.5
# How often it is looked whether a line is written: a thread does that in some tens of microseconds.
OUT_LOOKED_S = 0.0005

# So many warnings and errors of zcserve's own are kept for whoever asks what went wrong, of so many characters at most.
RECENT_MAX = 50
RECENT_CHARACTERS_MAX = 500

_INDENT = "  "
# The levels' own names: an application may change those of `logging` (`addLevelName`).
_LEVELS = {logging.DEBUG: "DEBUG", logging.INFO: "INFO", logging.WARNING: "WARNING", logging.ERROR: "ERROR"}
_TIME = "%Y-%m-%dT%H:%M:%S%z"


def printable(text: str) -> str:
    """`text` with every character escaped that is no letter, mark, digit, sign or plain space."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class Block(str):
    """Text of several lines, for a message that ends with them."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(printable, self.split("\n")))


class Recent(NamedTuple):
    """A warning or an error: when, in seconds since 1970; its level's name; its first line."""

    time: float
    level: str
    text: str


_recent: deque[Recent] = deque(maxlen=RECENT_MAX)


def recent() -> list[Recent]:
    """The last RECENT_MAX of the process's warnings and errors that the log has, oldest first."""
    return list(_recent)


def _remember(level: int, text: str) -> None:
    if level >= logging.WARNING:
        first = printable(text.partition("\n")[0][:RECENT_CHARACTERS_MAX])
        _recent.append(Recent(time.time(), _LEVELS.get(level, str(level)).lower(), first))


class Log(logging.LoggerAdapter[logging.Logger]):
    """The logger of a module. Arguments that are no numbers are put into the message as text, made printable."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name))

    def log(
        self,
        level: int,
        msg: object,
        *args: object,
        exc_info: ExcInfo = None,
        stack_info: bool = False,
        stacklevel: int = 1,
        extra: Mapping[str, object] | None = None,
        **_: object,
    ) -> None:
        """As `logging.Logger.log`. All other methods end here."""
        if _own is not None:
            if level >= _own.level:
                text = str(msg) % tuple(map(_safe, args)) if args else str(msg)
                _remember(level, text)
                _own.say(level, text, _error_of(exc_info))
            return
        logger = self.logger
        if logger.manager.disable >= level or level < logger.getEffectiveLevel():
            return  # not where it is `disabled`, which `dictConfig` makes of all loggers that it does not know
        file, line, function, stack = logger.findCaller(stack_info, stacklevel + 1)  # 1: this method
        safe = tuple(map(_safe, args))
        _remember(level, str(msg) % safe if safe else str(msg))
        error = _error_of(exc_info)
        known = (type(error), error, error.__traceback__) if error is not None else None
        record = logger.makeRecord(logger.name, level, file, line, msg, safe, known, function, extra, stack)
        if error is not None:
            record.exc_text = _trace_of(error)
        if logger.filter(record):
            logger.callHandlers(record)

    def isEnabledFor(self, level: int) -> bool:
        """Whether a message of this level is written."""
        return level >= (_own.level if _own is not None else self.getEffectiveLevel())


class Formatter(logging.Formatter):
    """For the log of a process that is the server's alone."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's lines, all but the first indented."""
        return _indented(super().format(record))


def _indented(text: str) -> str:
    first, *more = text.split("\n")
    return "\n".join([printable(first), *(_INDENT + printable(line) for line in more)])


def _safe(value: object) -> object:
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, BaseException):
        return printable(words_of(value) or type(value).__name__)
    return str(value) if isinstance(value, Block) else printable(str(value))


def _trace_of(error: BaseException) -> str:
    return str(Block("".join(traceback.format_exception(error)).rstrip("\n")))


def _error_of(exc_info: ExcInfo) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1]
    return sys.exc_info()[1] if exc_info else None


# --- a process that is the server's alone ---------------------------------------------------------------------


class _Own(LineWriter):
    """The lines of this process, on their way to a copy of descriptor 2."""

    def __init__(self, level: int) -> None:
        """Raises OSError and NoThreadError."""
        self.level = level
        self.is_journal = is_journal(2, os.environ)
        outlet = Outlet(os.dup(2))
        self.fd = outlet.fd
        super().__init__(outlet, "zcserve-log", WAITING_MAX)

    def say(self, level: int, text: str, error: BaseException | None = None) -> None:
        """A record of zcserve's."""
        name = _LEVELS.get(level, str(level))
        self.tell(
            _indented(f"{time.strftime(_TIME)} {name} {text}" + (f"\n{_trace_of(error)}" if error else "")), level
        )

    def tell(self, text: str, level: int = logging.INFO) -> None:
        """Lines as they are."""
        lines = f"{text}\n".encode(errors="backslashreplace")
        self.put(marked(lines, level) if self.is_journal else lines)

    def on_room(self, dropped: int, *, ended: bool) -> None:
        if dropped:
            self.say(logging.WARNING, f"{dropped} lines dropped: standard error took nothing")


class _Handler(logging.Handler):
    """Takes what the loggers of applications say."""

    def __init__(self, own: _Own) -> None:
        super().__init__()
        self._own = own
        self.setFormatter(Formatter("%(asctime)s %(levelname)s %(message)s", _TIME))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._own.tell(self.format(record), record.levelno)
        except Exception:
            self.handleError(record)


class _Stream(io.RawIOBase):
    """What is below sys.stderr."""

    def __init__(self, own: _Own) -> None:
        self._own = own
        self._lines = Gathering() if own.is_journal else None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def isatty(self) -> bool:
        return os.isatty(2)

    def write(self, data: ReadableBuffer) -> int:
        text = bytes(data)
        if self._lines is None:
            self._own.put(text)
        else:
            self._put_lines(self._lines.take(text))
        return len(text)

    def end(self) -> None:
        """Write the line that has begun."""
        if self._lines is not None:
            self._put_lines(self._lines.rest())

    def _put_lines(self, lines: bytes) -> None:
        if lines:
            self._own.put(marked(lines, logging.INFO))


_own: _Own | None = None
_handler: _Handler | None = None  # kept when it is not used any more: to take it apart needs the lock of `logging`


@contextmanager
def to_stderr(level: str) -> Iterator[None]:
    """This process is the server's alone: what it says goes to standard error, and waits for nothing there.

    Raises OSError and NoThreadError.
    """
    global _own, _handler
    own = _own = _Own(getattr(logging, level.upper()))
    handler, stream, root = _Handler(own), sys.stderr, logging.getLogger()
    _handler = handler
    logging.basicConfig(level=level.upper(), handlers=[handler])
    prints = _Stream(own)
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(prints), "utf-8", "backslashreplace", line_buffering=True)
    try:
        yield
    finally:
        sys.stderr = stream
        prints.end()
        _own = None
        if handler in root.handlers:  # not by `removeHandler`: an application's thread may hold the lock of `logging`
            root.handlers.remove(handler)
        own.close(time.monotonic() + OUT_WITHIN_S)


def await_out() -> None:
    """What this thread has said is written when this returns, as far as standard error takes it: so what is printed to
    standard output next stands behind it, where both are one file or pipe."""
    if _own is None:
        return
    said, until = _own.come, time.monotonic() + OUT_WITHIN_S
    while _own.gone < said and time.monotonic() < until:
        time.sleep(OUT_LOOKED_S)


def lost() -> int:
    """How many lines of the log were lost, since standard error took nothing; 0 where `logging` has them."""
    return _own.lost if _own is not None else 0


def level() -> str:
    """What is reported at least, as `set_level` takes it."""
    number = _own.level if _own is not None else logging.getLogger("zcserve").getEffectiveLevel()
    return _LEVELS.get(number, str(number)).lower()


def set_level(level: str) -> None:
    """From now on report what is at least so grave: "debug", "info", "warning" or "error", also of what applications
    log. In a program that uses zcserve as a library, of the logger "zcserve" alone."""
    number: int = getattr(logging, level.upper())
    if _own is None:
        logging.getLogger("zcserve").setLevel(number)
    else:
        _own.level = number
        logging.getLogger().setLevel(number)


def say(text: str) -> None:
    """Lines for standard error that are no record: the banner."""
    if _own is not None:
        _own.tell(text)
    elif sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


def put_back() -> None:
    """An application may have closed descriptor 2: have something there again, or a client's connection would get the
    number, and what is meant for standard error."""
    try:
        os.fstat(2)
    except OSError:
        if _own is not None:
            os.dup2(_own.fd, 2)


def prints_are_out() -> bool:
    """Whether what applications have printed to sys.stdout is written: where its reader has stopped, the interpreter
    would wait for it at its end."""
    stream = sys.stdout
    if stream is None:
        return True
    flushing = threading.Thread(target=stream.flush, name="zcserve-prints", daemon=True)
    try:
        threads.begin(flushing)
    except NoThreadError:
        return False
    flushing.join(PRINTS_OUT_WITHIN_S)
    return not flushing.is_alive()


def flush() -> None:
    """The process ends by `os._exit`: write what waits, if standard error takes it."""
    if _own is not None:
        _own.close(time.monotonic() + OUT_WITHIN_S)
