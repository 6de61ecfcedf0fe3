"""gRPC as far as a proxy must know it: what it answers by itself, and how long a call may take.

A client of gRPC reads the outcome of a call from trailers, not from the status of HTTP. Bytes of calls pass untouched.
Rules: "gRPC over HTTP2" and "gRPC status code mapping" of the grpc project.
"""
from libc.stdint cimport uint64_t
from pingora_c.h2.section cimport FieldSection
from pingora_c.http.header_block cimport HeaderBlock
from pingora_c.http.message cimport RequestHead
from pingora_c.http.trailers cimport Trailers
from pingora_c.proxy.response cimport Response

# Its Content-Type says gRPC, and not gRPC-Web.
cdef bint is_grpc(RequestHead head) noexcept
cdef bint holds_grpc_type(HeaderBlock* block) noexcept nogil
# Milliseconds that a call may take by its grpc-timeout, 0: any time, or the field is malformed.
cdef uint64_t grpc_timeout_ms(RequestHead head) noexcept
# The same of a field section of which no head was made.
cdef bint holds_grpc(const FieldSection* section) noexcept nogil
# An answer made here: to a call as its outcome, with no body, status and message in the head (Trailers-Only). `reason`
# is that of a failure, NULL: a hook gave the answer. Other answers, those that speak gRPC already and streamed ones
# with 200 stay as they are.
cdef Response as_grpc(bint is_call, Response response, const char* reason)
# The outcome, in trailers, of a call that breaks off when messages have come already. `reason` is that of the failure.
cdef Trailers call_status(int http_status, const char* reason)
