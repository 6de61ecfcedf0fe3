"""Tables over the 256 octets, from ascii.h."""
cdef extern from "ascii.h" nogil:
    const unsigned char PG_TOKEN[256]   # 1 for tchar, RFC 9110 §5.6.2
    const unsigned char PG_LOWER[256]   # octet -> its lower-case form
