"""Words that other processes read: stored and loaded in order."""
from libc.stdint cimport uint64_t

cdef extern from * nogil:
    const int __ATOMIC_RELEASE
    const int __ATOMIC_ACQUIRE
    const int __ATOMIC_SEQ_CST
    void __atomic_store_n(uint64_t* at, uint64_t value, int order)
    uint64_t __atomic_load_n(uint64_t* at, int order)
    void __atomic_thread_fence(int order)
    bint __atomic_compare_exchange_n(
        uint64_t* at, uint64_t* expected, uint64_t value, bint is_weak, int done, int not_done
    )
