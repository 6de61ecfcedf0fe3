"""One access-log line from one finished session, into a buffer of the caller. No Python objects, no allocation.

Every client byte is hostile: whatever the fields hold, a line is exactly one line of printable ASCII that parses as
its format. Neither format has a place for Authorization, Cookie or Set-Cookie. The query string is part of the target
and is logged. The cached time text is shared: call from the loop's thread only.
"""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    LINE_MIN = 1024    # the least `room` a formatter works with
    LINE_ROOM = 16384  # a good `room`: no ordinary line is cut

# Borrowed for the call. Size 0: absent, "-" in combined and null in JSON.
cdef struct LogText:
    const char* at
    size_t size

# memset to 0 and fill in what is known; durations that are not known are -1.
cdef struct AccessRecord:
    LogText client           # address without port
    LogText method           # absent if the request line could not be parsed
    LogText target           # as received, query included
    LogText host
    LogText referer
    LogText user_agent
    LogText request_id
    LogText upstream         # address and port of the last upstream tried
    const char* upstream_protocol    # spoken there, NUL-terminated; NULL: none
    uint8_t minor_version    # of HTTP/1.x
    const char* protocol     # NUL-terminated; NULL: HTTP/1.x
    uint16_t status          # 0 if nothing was answered
    bint reused              # the upstream connection came from the pool
    uint32_t attempts        # upstream tries
    uint64_t sent_bytes      # body bytes to the client
    uint64_t received_bytes  # body bytes from the client
    int64_t at_ms            # wall clock, Unix time in milliseconds
    int64_t total_us
    int64_t connect_us
    int64_t first_byte_us
    const char* error        # reason of the failure, NUL-terminated; NULL if there was none

# Both write the line with its final "\n" to `out` and return its size (<= room), or 0 if room < LINE_MIN. Text too
# long for `room` is cut and ends in "...": of what the fixed part leaves, the target may use half and each other text
# a sixteenth.

# Apache's and nginx's "combined": client - - [24/Nov/2026:19:40:37 +0000] "GET / HTTP/1.1" 200 12 "referer" "agent".
# Quote, backslash and all that is not printable ASCII appear as \xHH. A status of 0 appears as 000.
cdef size_t format_combined(const AccessRecord* record, char* out, size_t room) noexcept nogil

# One JSON object: time (RFC 3339, UTC, ms), client, method, target, protocol, status, bytes_sent, bytes_received,
# duration_ms, connect_ms, first_byte_ms, upstream,
# upstream_protocol, attempts, reused, host, user_agent, referer, request_id, error.
# Octets >= 0x7f appear as \u00XX. A status of 0 is null.
cdef size_t format_json(const AccessRecord* record, char* out, size_t room) noexcept nogil
