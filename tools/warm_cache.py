"""Warm a root or a server, and release to many: the command line of `tools/warm`.

What begins with a word has a module of its own (`tools/warm/subcommands.py`); else flags say what to warm
(`tools/warm/warming.py`). Each is imported when it is asked for: a purge is not to wait for what loads a root. Here is
what becomes of errors.

A command lives for a second, and nearly all that it makes is there until its end. So Python's cyclic collector looks at
it seldom, and not once more when it ends: that was a fifth of a purge.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

# The collector looks for circles after so many objects more than went, and no sooner: some 20 MB of them.
COLLECTED_AFTER = 100_000

if __name__ == "__main__":  # before what is imported
    gc.set_threshold(COLLECTED_AFTER)

if not __package__:  # run as a file: the module path begins with tools/, and zcserve lies beside that
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.warm import subcommands  # noqa: E402
from tools.warm.arguments import EXIT_INTERRUPTED, EXIT_WRONG, EXIT_WRONG_USE  # noqa: E402
from zcserve.errors import UsageError, ZcserveError  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Run with these arguments (without the program's name); the exit code, see `--help`."""
    try:
        given = sys.argv[1:] if arguments is None else arguments
        if given and not given[0].startswith("-"):
            return subcommands.run(given[0], given[1:])
        from tools.warm import warming  # late: it loads roots

        return warming.run(given)
    except ZcserveError as error:
        print("warm_cache:", " ".join(str(error).splitlines()), file=sys.stderr)
        return EXIT_WRONG_USE if isinstance(error, UsageError) else EXIT_WRONG
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    exit_code = main()
    gc.freeze()
    sys.exit(exit_code)
