"""`python -m zcserve` is the command `zcserve`."""

from __future__ import annotations

from zcserve.command import main

raise SystemExit(main())
