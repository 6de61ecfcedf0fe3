"""Response heads as HTTP/2 fields (RFC 9113 §8.3.2): written from parsed fields, without those of a connection."""
from libc.stdint cimport int64_t
from pingora_c.h2.session cimport H2Session, H2Stream
from pingora_c.http.message cimport ResponseHead

# Submit a final head; `length` is of the body, -1: not known. `is_tunnel`: it answers an extended CONNECT, whose 101 is
# 200 here (RFC 8441 §5). 0 or -1.
cdef int submit_answer(
    H2Session session, H2Stream* stream, ResponseHead head, int64_t length, bint has_body, bint is_tunnel,
) noexcept
# Submit an interim head. 0 or -1.
cdef int submit_interim_answer(H2Session session, H2Stream* stream, ResponseHead head) noexcept
