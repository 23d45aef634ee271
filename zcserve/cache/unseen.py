"""Content is out of the garbage collector's sight.

A full collection looks at every object that it knows of, and holds the GIL meanwhile: 170 ms for a million entries, in
which the loop answers nothing. An entry, its body and an index are never part of a cycle, so reference counting frees
them, and the collector need not know them. Each is hidden by itself when it is made, for about 0.15 us.

`gc.freeze` hides all objects of the process at once, and with them whatever garbage waits to be collected, for good.
So it is used once, when nothing is served yet and after a collection (server.py).

What is odd: a dict that is hidden is seen again after an entry is put into it, and must be hidden again. `put` does
both while no thread collects: else one would come upon a million entries now and then.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar

from zcserve import collector

Key = TypeVar("Key")
Value = TypeVar("Value")
Key_contra = TypeVar("Key_contra", contravariant=True)
Value_contra = TypeVar("Value_contra", contravariant=True)

# PyObject_GC_UnTrack(PyObject *): nothing happens where an object is hidden already.
_untrack = ctypes.pythonapi.PyObject_GC_UnTrack
_untrack.argtypes = (ctypes.py_object,)
_untrack.restype = None

# `hide(thing)`: the collector does not look at this object any more. It must never be part of a cycle. Only for what is
# freed by `PyObject_GC_UnTrack` as well, which takes what is hidden already: instances of our classes, lists, tuples,
# dicts, deques. A memoryview that is hidden crashes when it is freed, and so does an object that the collector does not
# know.
hide: Callable[[object], None] = _untrack


class Index(Protocol[Key_contra, Value_contra]):
    """What items are put into."""

    def update(self, items: Iterable[tuple[Key_contra, Value_contra]], /) -> None: ...


def put(index: Index[Key, Value], items: Mapping[Key, Value] | Iterable[tuple[Key, Value]]) -> None:
    """`index.update(items)`, and the index stays hidden."""
    with collector.paused():
        index.update(items.items() if isinstance(items, Mapping) else items)
        hide(index)
