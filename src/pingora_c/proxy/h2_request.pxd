"""A request as fields of HTTP/2 (RFC 9113 §8.3.1): pseudo fields first, what belongs to one connection left out.

Which fields go on and which the proxy writes is decided where it is for HTTP/1, in h1.encode. Cookie fields go as they
came: splitting them into crumbs would only help the origin's HPACK table, and would make one field a hundred where
limits count fields.
"""
from libc.stddef cimport size_t
from pingora_c.h1.encode cimport Outgoing
from pingora_c.http.message cimport RequestHead
from pingora_c.lib.nghttp2 cimport nghttp2_nv

cdef struct RequestFields:
    nghttp2_nv* fields       # of a table that the module owns, good until the next call
    size_t n

# Make the table for `head`; `is_secure`: the connection is encrypted. `protocol` is for an extended CONNECT (RFC 8441),
# else NULL. 0, -1 without memory, or if there are more fields than the table has room for.
cdef int request_fields(
    RequestHead head, const Outgoing* how, bint is_secure, const char* protocol, RequestFields* made,
) noexcept
