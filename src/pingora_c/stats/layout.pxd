# cython: overflowcheck=False
# The debug build's check breaks Cython 3.3 on sums among the members of an enum.
"""The numbers of a worker: one block of memory that one process writes and others read without asking it.

    header, HEADER_WORDS | a uint64 for each Counter, COUNTER_ROOM | records, one behind the other

A Counter that ends in _OPEN or _ACTIVE, and those behind
SAMPLED, go down again; all others only grow. A family is a stretch of counters, one for each of its reasons: FAILURES +
a FailureKind, REFUSALS + a Refusal. Their names are in proxy/counter_names.pyx, the one table of them.

A record is a stretch of words for something that is not known before the program runs: a service, an upstream, a
metric of the user's. Records are only ever added: a word with its kind and the size of its key, one with the number of
its cells, the key filled up to whole words, the cells. USED says how far they reach and is stored last, so that a
reader sees whole ones, also of a writer that dies in the middle.

A block outlives its process: who comes next goes on with its numbers, so that they never fall.
"""
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    BLOCK_WORDS = 1 << 20      # 8 MiB, of which only what is written to takes memory
    HEADER_WORDS = 32
    COUNTER_ROOM = 512         # >= COUNTER_END
    RECORDS_AT = HEADER_WORDS + COUNTER_ROOM
    CELLS_MOST = 2048          # of a record
    RECORDS_END = BLOCK_WORDS - CELLS_MOST     # behind it, cells for whoever finds no room
    KEY_BYTES_MOST = 4096

cdef enum Header:              # words of the header
    LAYOUT = 0                 # of which version this is: see LAYOUT_NOW
    USED = 1                   # words of records
    DROPPED = 2                # records that found no room
    PID = 3                    # of the process that writes, 0: nobody does
    PLACE = 4                  # number of the worker; this and what follows is written by the supervisor
    GENERATION = 5
    BORN_S = 6                 # time() at its start

cdef enum RecordKind:
    SERVICE = 1                # cells: ServiceCell; the key is the name of the service
    UPSTREAM = 2               # cells: UpstreamCell; the key is its address
    FAMILY = 3                 # no cells; the key describes a metric of the user's: see pingora.metrics
    USER_COUNTER = 4           # a double; the key is the family's name and the labels
    USER_GAUGE = 5             # a double, NaN: not set
    USER_HISTOGRAM = 6         # doubles: one for each border of the family, one for all beyond, the sum
    KIND_END

cdef enum:
    FAILURE_ROOM = 48          # > any FailureKind
    REFUSAL_ROOM = 96          # > any Refusal
    PROXY_REFUSAL_ROOM = 16    # > any IntroductionRefusal

cdef enum Counter:
    CONNECTIONS_ACCEPTED = 0
    CONNECTIONS_OPEN           # of clients
    REQUESTS                   # that a session was made for
    REQUESTS_ACTIVE
    ANSWERS                    # + status // 100, of every head that was written to a client
    ATTEMPTS = ANSWERS + 6     # upstreams that were tried
    RETRIES                    # attempts behind a request's first
    ACCEPT_PAUSES              # + Shortage
    CLIENTS_REFUSED = ACCEPT_PAUSES + 3    # connections beyond Limits.client_connections
    CLOSED_IDLE                # client connections closed after Limits.keep_alive
    CLOSED_STALLED             # the same, after Limits.write_timeout between two requests
    CLOSED_READS_SLOWLY        # the same, for Limits.write_rate
    CLOSED_REQUESTS            # the same, after Limits.connection_requests
    CLOSED_FLOOD               # the same, of HTTP/2: frames that make work and carry nothing
    CLOSED_HTTP2_ERROR         # the same, of HTTP/2: what is no HTTP/2
    HTTP2_CONNECTIONS          # connections that turned out to be of HTTP/2
    CLOSED_HANDSHAKE           # the same, after Limits.handshake_timeout
    CLOSED_HALF                # the same, whose client ended its side: ProxyHttp.abort_on_half_close
    CLOSED_LINGERING           # the same, which sent on behind its last answer for too long
    HANDSHAKES                 # of TLS with clients that succeeded
    HANDSHAKE_FAILURES         # that one side gave up
    PROXY_HEADERS              # of the PROXY protocol that introduced a client
    PROXY_REFUSALS             # + -ProxyCode or IntroductionRefusal: connections closed for their header
    LOOP_BLOCKED = PROXY_REFUSALS + PROXY_REFUSAL_ROOM    # longer than Limits.blocked_after
    ENDPOINT_OUTAGES           # endpoints that failures took out of selection
    ENDPOINT_RETURNS           # that an answer brought in again
    TCP_SESSIONS
    TCP_SESSIONS_ACTIVE
    TCP_RECEIVED               # bytes from clients that were passed on
    TCP_SENT                   # to them
    H2_CONNECTS                # connections to upstreams that may speak HTTP/2
    H2_CONNECTIONS_OPEN        # of these
    H2_WAITS                   # requests that waited for a stream, all connections to their upstream being full
    H2_GOAWAYS                 # that upstreams sent
    H2_REFUSED_STREAMS         # requests that upstreams say they did not process
    H2_PING_TIMEOUTS           # connections to upstreams that answered no PING
    H2_GUARDED                 # connections to upstreams ended for floods
    UPSTREAMS_CLOSED_IDLE      # connections to upstreams closed after HttpPeer.idle_timeout
    UPSTREAMS_CLOSED_FULL      # the same, for which the pool had no room
    REPLAYS_GIVEN_UP           # requests whose body passed RetryPolicy.replay_bytes: not tried again
    FAILURES                   # + FailureKind: sessions that ended, OK for those that did not fail
    ATTEMPT_FAILURES = FAILURES + FAILURE_ROOM     # + FailureKind: attempts that failed, tried again or not
    REFUSALS = ATTEMPT_FAILURES + FAILURE_ROOM     # + Refusal: messages that no session saw
    SAMPLED = REFUSALS + REFUSAL_ROOM
    BUFFERS_HELD = SAMPLED     # bytes, looked at now and then
    UPSTREAM_IDLE              # connections in the pools
    COUNTER_END


# Cells of a service; its sessions count when they end. Also in pingora/observe/families.py.
cdef enum ServiceCell:
    SERVICE_OPEN = 0           # connections of clients
    SERVICE_ACTIVE             # requests
    SERVICE_ACCEPTED
    SERVICE_ENDED              # + status // 100 of the answer, 0: nothing was answered
    SERVICE_SENT = SERVICE_ENDED + 6       # bytes of bodies to clients
    SERVICE_RECEIVED
    SERVICE_TIME = 16          # histogram: from the head's first byte to the end
    SERVICE_HOOKS = SERVICE_TIME + 764     # histogram: in the synchronous parts of hooks, of requests that ran any
    SERVICE_CELLS = SERVICE_HOOKS + 764

# Cells of an upstream.
cdef enum UpstreamCell:
    UPSTREAM_ACTIVE = 0        # attempts
    UPSTREAM_ATTEMPTS
    UPSTREAM_RETRIES           # attempts behind a request's first
    UPSTREAM_REUSED            # attempts over a connection that was there
    UPSTREAM_CONNECT_FAILED    # attempts that failed before they had a connection
    UPSTREAM_FAILED            # others that failed
    UPSTREAM_ANSWERED          # + status // 100
    UPSTREAM_CONNECT = 16      # histogram: to a connection, TLS included; new ones only
    UPSTREAM_FIRST_BYTE = UPSTREAM_CONNECT + 764   # histogram: from the connection to the head of the answer
    UPSTREAM_CELLS = UPSTREAM_FIRST_BYTE + 764
