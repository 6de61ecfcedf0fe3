"""The masking of WebSocket payload (RFC 6455 §5.3), from mask.h."""
from libc.stdint cimport uint8_t

cdef extern from "mask.h" nogil:
    # out[i] = in[i] ^ key[(phase + i) % 4]; `out` is `data` or does not overlap it.
    void pg_mask_bytes(char* out, const char* data, size_t size, const uint8_t* key, unsigned int phase)
