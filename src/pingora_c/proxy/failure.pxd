"""Why a session failed: kind, source, and the status that tells the client. Born once, unchanged to the log
(DESIGN rule 8).
"""
from libc.stdint cimport uint16_t

cdef enum FailureKind:
    OK = 0
    CLIENT_GONE             # no answer is possible
    CLIENT_STALLED          # no answer is possible: it took nothing for Limits.write_timeout
    CLIENT_READS_SLOWLY     # no answer is possible: it took less than Limits.write_rate
    CLIENT_BAD_HELLO        # its first TLS message is malformed; nothing is answered
    CLIENT_BAD_BODY         # 400
    CLIENT_BAD_UPGRADE      # 400  no handshake of WebSocket
    CLIENT_TRUNCATED        # 400  it ended its side within the body
    CLIENT_TIMEOUT          # 408  the body stopped coming
    CLIENT_TOO_SLOW         # 408  the body came more slowly than Limits.body_rate
    BODY_TOO_LARGE          # 413  past Limits.body_bytes, or the limit of read_body
    CHUNK_EXTENSIONS        # 400  past Limits.chunk_extension_bytes
    NO_UPSTREAM             # 503
    CONNECT_REFUSED         # 502
    CONNECT_TIMEOUT         # 504
    TLS_HANDSHAKE           # 502
    CERTIFICATE_INVALID     # 502  the upstream's, or not for its name
    UPSTREAM_CLOSED         # 502  before a whole head
    UPSTREAM_REFUSED        # 502  it says that it did not process the request (HTTP/2)
    NO_UPGRADE              # 502  the upstream's protocol has no upgrade
    UPSTREAM_BAD_HEAD       # 502
    UPSTREAM_BAD_BODY       # 502, or cut if the head has left
    UPSTREAM_TRUNCATED      # the answer is cut
    FIRST_BYTE_TIMEOUT      # 504  no byte of an answer came
    UPSTREAM_HEAD_TIMEOUT   # 504  the head of an answer was not whole after HttpPeer.head_timeout
    UPSTREAM_TIMEOUT        # 504  between reads
    UPSTREAM_WRITE_TIMEOUT  # 504  it took nothing of the request
    UPSTREAM_TOTAL_TIMEOUT  # 504  the whole exchange took longer than HttpPeer.total_timeout
    TRY_TIMEOUT             # 504  one attempt took longer than RetryPolicy.try_timeout
    TOTAL_TIMEOUT           # 504  all attempts together took longer than RetryPolicy.total_timeout
    CALL_TIMEOUT            # 504  a call of gRPC took longer than its client gave it
    TUNNEL_TIMEOUT          # nothing moved in a tunnel: cut
    CLIENT_BAD_FRAME        # of WebSocket: closed on both sides
    UPSTREAM_BAD_FRAME
    UPSTREAM_STATUS         # an answer with a status of RetryPolicy.statuses; only ever retried
    HOOK_RAISED             # 500
    HOOK_TIMEOUT            # 504
    NO_DESCRIPTORS          # 503  none is left for a connection to an upstream
    NO_MEMORY               # 503
    FAILURE_END

cdef uint16_t failure_status(int kind) noexcept nogil       # 0: nothing can be answered
cdef const char* failure_reason(int kind) noexcept nogil    # snake case, for logs
cdef const char* failure_source(int kind) noexcept nogil    # "upstream", "downstream", "internal"

cdef bint is_client_failure(int kind) noexcept nogil
cdef bint is_upstream_failure(int kind) noexcept nogil      # it counts against the endpoint

# The exception for a failure; `cause` is an exception or None, `detail` a text for logs or None.
cdef object make_error(int kind, object cause, str detail)
# The kind of a ProxyError that a hook raised on, OK for another exception.
cdef int error_kind(object error) except -1
