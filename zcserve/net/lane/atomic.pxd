# cython: language_level=3
"""Atomic operations: how one thread reads what another writes.

`acquire` and `release` are a pair: who reads a value that was stored so, sees all that was written before it. On x86 they are plain
moves. `store` and `load` are for what two threads tell each other crosswise: none of them goes before another. All are builtins of gcc and clang,
which ThreadSanitizer knows; fences it does not.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from * nogil:
    """
    #define zc_acquire(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
    #define zc_release(at, value) __atomic_store_n(at, value, __ATOMIC_RELEASE)
    #define zc_store(at, value) __atomic_store_n(at, value, __ATOMIC_SEQ_CST)
    #define zc_load_now(at) __atomic_load_n(at, __ATOMIC_SEQ_CST)
    #define zc_relaxed(at) __atomic_load_n(at, __ATOMIC_RELAXED)
    #define zc_set(at, value) __atomic_store_n(at, value, __ATOMIC_RELAXED)
    #define zc_add(at, value) __atomic_add_fetch(at, value, __ATOMIC_SEQ_CST)
    #define zc_swap(at, value) __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST)
    #define zc_unite(at, value) __atomic_or_fetch(at, value, __ATOMIC_SEQ_CST)
    #define zc_cas(at, was, value) __atomic_compare_exchange_n(at, was, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)
    """
    uint64_t acquire "zc_acquire"(const uint64_t *at)
    void release "zc_release"(uint64_t *at, uint64_t value)
    void store "zc_store"(uint64_t *at, uint64_t value)              # seen before any later load
    uint64_t load "zc_load_now"(const uint64_t *at)                  # not before any earlier `store`, or `add`
    uint64_t add "zc_add"(uint64_t *at, uint64_t value)              # the sum
    bint replace "zc_cas"(uint64_t *at, uint64_t *was, uint64_t value)      # False: `was` is what stands there
    uint64_t unite "zc_unite"(uint64_t *at, uint64_t bits)
    uint64_t swap "zc_swap"(uint64_t *at, uint64_t value)
    int load_int "zc_load_now"(const int *at)
    bint replace_int "zc_cas"(int *at, int *was, int value)
    int acquire_int "zc_acquire"(const int *at)
    void release_int "zc_release"(int *at, int value)
    int look_int "zc_relaxed"(const int *at)                         # a number of another thread's, for what need not be exact
    void set_int "zc_set"(int *at, int value)
    int add_int "zc_add"(int *at, int value)
    int unite_int "zc_unite"(int *at, int bits)
    int swap_int "zc_swap"(int *at, int value)
    uint64_t look_64 "zc_relaxed"(const uint64_t *at)
    void set_64 "zc_set"(uint64_t *at, uint64_t value)
    uint32_t look_32 "zc_relaxed"(const uint32_t *at)
    void set_32 "zc_set"(uint32_t *at, uint32_t value)
    void *acquire_pointer "zc_acquire"(void * const *at)
    void release_pointer "zc_release"(void **at, void *value)
    double look_double "zc_relaxed_double"(const double *at)
    void set_double "zc_set_double"(double *at, double value)

cdef extern from * nogil:
    """
    static inline double zc_relaxed_double(const double *at) { double v; __atomic_load(at, &v, __ATOMIC_RELAXED); return v; }
    static inline void zc_set_double(double *at, double v) { __atomic_store(at, &v, __ATOMIC_RELAXED); }
    """
