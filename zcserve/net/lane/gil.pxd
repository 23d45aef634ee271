# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The interpreter's lock, as the lane holds it.

A turn runs without the lock. The first request that needs Python takes it, and it is kept for as long as one request after
the other needs it: taking it costs as much as an answer. Other threads get it while a servlet runs, as threads do.
"""

from zcserve.net.lane.system cimport PyEval_RestoreThread, PyEval_SaveThread, PyThreadState

cdef struct Gil:
    PyThreadState *thread        # while the lock is given up
    bint held
    bint asked                   # by the request at hand


cdef inline void hold_gil(Gil *gil) noexcept nogil:
    gil.asked = True
    if not gil.held:
        gil.held = True
        PyEval_RestoreThread(gil.thread)


cdef inline void let_gil_go(Gil *gil) noexcept nogil:
    if gil.held:
        gil.held = False
        gil.thread = PyEval_SaveThread()
