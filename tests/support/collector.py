"""What the garbage collector looks at while tests run: what they make, and not the many thousand tests themselves, nor
the frameworks that some of them import.

To look at all takes 0.2 s a time, and took half of the processor time of a run.
"""

from __future__ import annotations

import gc

# So many are looked at in 5 ms. What a module leaves is mostly less, and is then not collected for its own sake.
OBJECTS_MAX = 50_000


def hide_what_lasts() -> None:
    """Have it look at no more of what is there now; nothing, where that is little."""
    if len(gc.get_objects()) > OBJECTS_MAX:
        gc.collect()
        gc.collect()  # the first one's finalizers leave some for the second, and what is hidden is never collected
        gc.freeze()
