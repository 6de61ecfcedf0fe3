"""The table of failures and their Python exception."""

cdef enum:
    D_LETTER = 100     # of the sources only "downstream" begins with it
    U_LETTER = 117     # and only "upstream" with this

cdef struct Row:
    uint16_t status
    const char* reason
    const char* source

cdef Row[FAILURE_END] ROWS
ROWS[<int>OK] = Row(0, b"ok", b"internal")
ROWS[<int>CLIENT_GONE] = Row(0, b"client_gone", b"downstream")
ROWS[<int>CLIENT_STALLED] = Row(0, b"client_stalled", b"downstream")
ROWS[<int>CLIENT_READS_SLOWLY] = Row(0, b"client_reads_slowly", b"downstream")
ROWS[<int>CLIENT_BAD_HELLO] = Row(0, b"client_bad_hello", b"downstream")
ROWS[<int>CLIENT_BAD_BODY] = Row(400, b"client_bad_body", b"downstream")
ROWS[<int>CLIENT_BAD_UPGRADE] = Row(400, b"client_bad_upgrade", b"downstream")
ROWS[<int>CLIENT_TRUNCATED] = Row(400, b"client_truncated", b"downstream")
ROWS[<int>CLIENT_TIMEOUT] = Row(408, b"client_timeout", b"downstream")
ROWS[<int>CLIENT_TOO_SLOW] = Row(408, b"client_too_slow", b"downstream")
ROWS[<int>BODY_TOO_LARGE] = Row(413, b"body_too_large", b"downstream")
ROWS[<int>CHUNK_EXTENSIONS] = Row(400, b"chunk_extensions_too_large", b"downstream")
ROWS[<int>NO_UPSTREAM] = Row(503, b"no_upstream", b"internal")
ROWS[<int>CONNECT_REFUSED] = Row(502, b"connect_failed", b"upstream")
ROWS[<int>CONNECT_TIMEOUT] = Row(504, b"connect_timeout", b"upstream")
ROWS[<int>TLS_HANDSHAKE] = Row(502, b"tls_handshake_failed", b"upstream")
ROWS[<int>CERTIFICATE_INVALID] = Row(502, b"certificate_invalid", b"upstream")
ROWS[<int>UPSTREAM_CLOSED] = Row(502, b"upstream_closed", b"upstream")
ROWS[<int>UPSTREAM_REFUSED] = Row(502, b"upstream_refused", b"upstream")
ROWS[<int>NO_UPGRADE] = Row(502, b"no_upgrade", b"upstream")
ROWS[<int>UPSTREAM_BAD_HEAD] = Row(502, b"upstream_bad_head", b"upstream")
ROWS[<int>UPSTREAM_BAD_BODY] = Row(502, b"upstream_bad_body", b"upstream")
ROWS[<int>UPSTREAM_TRUNCATED] = Row(502, b"upstream_truncated", b"upstream")
ROWS[<int>FIRST_BYTE_TIMEOUT] = Row(504, b"first_byte_timeout", b"upstream")
ROWS[<int>UPSTREAM_HEAD_TIMEOUT] = Row(504, b"upstream_head_timeout", b"upstream")
ROWS[<int>UPSTREAM_TIMEOUT] = Row(504, b"upstream_timeout", b"upstream")
ROWS[<int>UPSTREAM_WRITE_TIMEOUT] = Row(504, b"upstream_write_timeout", b"upstream")
ROWS[<int>UPSTREAM_TOTAL_TIMEOUT] = Row(504, b"upstream_total_timeout", b"upstream")
ROWS[<int>TRY_TIMEOUT] = Row(504, b"try_timeout", b"upstream")
ROWS[<int>TOTAL_TIMEOUT] = Row(504, b"total_timeout", b"upstream")
ROWS[<int>CALL_TIMEOUT] = Row(504, b"call_timeout", b"downstream")
ROWS[<int>TUNNEL_TIMEOUT] = Row(0, b"tunnel_timeout", b"internal")
ROWS[<int>CLIENT_BAD_FRAME] = Row(0, b"client_bad_frame", b"downstream")
ROWS[<int>UPSTREAM_BAD_FRAME] = Row(0, b"upstream_bad_frame", b"upstream")
ROWS[<int>UPSTREAM_STATUS] = Row(502, b"upstream_status", b"upstream")
ROWS[<int>HOOK_RAISED] = Row(500, b"hook_raised", b"internal")
ROWS[<int>HOOK_TIMEOUT] = Row(504, b"hook_timeout", b"internal")
ROWS[<int>NO_DESCRIPTORS] = Row(503, b"no_descriptors", b"internal")
ROWS[<int>NO_MEMORY] = Row(503, b"no_memory", b"internal")


cdef uint16_t failure_status(int kind) noexcept nogil:
    return ROWS[kind].status


cdef const char* failure_reason(int kind) noexcept nogil:
    return ROWS[kind].reason


cdef const char* failure_source(int kind) noexcept nogil:
    return ROWS[kind].source


cdef bint is_client_failure(int kind) noexcept nogil:
    return ROWS[kind].source[0] == D_LETTER


cdef bint is_upstream_failure(int kind) noexcept nogil:
    return ROWS[kind].source[0] == U_LETTER


class ProxyError(Exception):
    """Why a session failed, as hooks see it.

    `reason` is machine-readable ("connect_failed", "upstream_timeout" …), `source` one of "upstream", "downstream",
    "internal", `status` what the client is told by default (0: nothing can be told). `__cause__` is the exception of a
    hook that raised. `detail` is a text for logs that says more, or None. `retry` says in `fail_to_connect` and
    `error_while_proxy` whether another attempt follows, and may be set there; True is honoured as long as attempts are
    left and all of the request can be sent again.
    """

    def __init__(self, reason: str, source: str, status: int) -> None:
        super().__init__(f"{reason} ({source})")
        self.reason = reason
        self.source = source
        self.status = status
        self.retry = False
        self.detail: str | None = None


class SessionEnded(Exception):
    """A session was asked for something that only a running one can give."""


cdef object make_error(int kind, object cause, str detail):
    error = ProxyError(ROWS[kind].reason.decode("ascii"), ROWS[kind].source.decode("ascii"), ROWS[kind].status)
    error.__cause__ = cause
    error.detail = detail
    return error


cdef int error_kind(object error) except -1:
    cdef int kind
    if isinstance(error, ProxyError):
        for kind in range(<int>FAILURE_END):
            if ROWS[kind].status and ROWS[kind].reason.decode("ascii") == error.reason:
                return kind
    return OK
