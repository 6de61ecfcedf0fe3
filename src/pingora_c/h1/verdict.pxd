"""Why a head that is well formed line by line is refused: one table of reasons for requests and responses."""

# A response that is refused is 502 whatever the reason.
cdef enum Verdict:
    HEAD_OK = 0
    BAD_LENGTH = -1            # 400  Content-Length: not 1*DIGIT, overflow of 63 bits, list, or repeated
    BAD_CODING = -2            # 400  Transfer-Encoding: chunked not exactly once and alone
    UNKNOWN_CODING = -3        # 501  a transfer coding other than chunked
    LENGTH_AND_CODING = -4     # 400  Content-Length beside Transfer-Encoding
    CODING_IN_HTTP10 = -5      # 400  Transfer-Encoding in an HTTP/1.0 message
    NO_HOST = -6               # 400  HTTP/1.1 request without Host
    MANY_HOSTS = -7            # 400
    BAD_HOST = -8              # 400  not uri-host [":" port] (RFC 9110 §7.2), userinfo, bad port
    BAD_CONNECTION = -9        # 400  a Connection member that is no token, or too many members
    BAD_TARGET_FORM = -10      # 400  target form not allowed for the method (RFC 9112 §3.2)
    # 502: Transfer-Encoding on 1xx or 204 (RFC 9112 §6.1), Content-Length on 1xx/204 with a value other than 0; a 101
    # that was not asked for or names no protocol
    UNEXPECTED_TRANSFER = -11
    FRAMING_ALIAS = -12        # 400  Content_Length or Transfer_Encoding
    BAD_UPGRADE = -13          # 400  an Upgrade member that is not token ["/" token]
    UNKNOWN_EXPECTATION = -14  # 417  Expect other than 100-continue
    BAD_MAX_FORWARDS = -15     # 400  of TRACE or OPTIONS: not 1*DIGIT, overflow, or repeated
    WRONG_SCHEME = -16         # 421  an https target that did not come over TLS (RFC 9110 §7.4)

# The status that answers a client's request: 400, 417, 421 or 501.
cdef int verdict_status(int verdict) noexcept nogil

# A machine-readable reason in snake case, for logs and tests.
cdef const char* verdict_reason(int verdict) noexcept nogil
