"""What the build checks, from sanitize.h."""
cdef extern from "sanitize.h" nogil:
    const int PG_DEBUG                          # 1 in debug and asan builds
    const int PG_ASAN                           # 1 under AddressSanitizer
    # reading or writing it is reported from now on; nothing without AddressSanitizer
    void PG_POISON(void* data, size_t size)
    void PG_UNPOISON(void* data, size_t size)
