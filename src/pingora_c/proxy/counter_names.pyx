"""The names of the counters, in Prometheus' manner: what ends in _total only grows, the others go up and down."""
from pingora_c.net.admission cimport SHORT_OF_CONNECTIONS, SHORT_OF_DESCRIPTORS
from pingora_c.net.introducer cimport INTRODUCTION_END, introduction_reason
from pingora_c.proxy.failure cimport FAILURE_END, OK, failure_reason, is_upstream_failure
from pingora_c.proxy.refusal cimport REFUSAL_END, refusal_reason
from pingora_c.stats.counters cimport (
    ACCEPT_PAUSES, ANSWERS, ATTEMPTS, ATTEMPT_FAILURES, BUFFERS_HELD, CLIENTS_REFUSED, CLOSED_FLOOD, CLOSED_HALF,
    CLOSED_HANDSHAKE, CLOSED_HTTP2_ERROR, CLOSED_IDLE, CLOSED_LINGERING, CLOSED_READS_SLOWLY, CLOSED_REQUESTS,
    CLOSED_STALLED, CONNECTIONS_ACCEPTED, CONNECTIONS_OPEN,
    COUNTER_END, ENDPOINT_OUTAGES, ENDPOINT_RETURNS, FAILURES, FAILURE_ROOM, H2_CONNECTIONS_OPEN, H2_CONNECTS,
    H2_GOAWAYS, H2_GUARDED, H2_PING_TIMEOUTS, H2_REFUSED_STREAMS,
    H2_WAITS, HANDSHAKES, HANDSHAKE_FAILURES, HTTP2_CONNECTIONS,
    LOOP_BLOCKED, PROXY_HEADERS, PROXY_REFUSALS, PROXY_REFUSAL_ROOM, REFUSALS, REFUSAL_ROOM, REPLAYS_GIVEN_UP,
    REQUESTS, REQUESTS_ACTIVE, RETRIES, TCP_RECEIVED, TCP_SENT, TCP_SESSIONS, TCP_SESSIONS_ACTIVE,
    UPSTREAMS_CLOSED_FULL, UPSTREAMS_CLOSED_IDLE, UPSTREAM_IDLE,
)

# What the tables of the codecs hold beside refusals of requests.
NEVER_REFUSED = ("unknown", "incomplete", "bad_status_line", "unexpected_transfer")


cdef tuple make_names():
    cdef list names = [""] * <int>COUNTER_END
    cdef int i
    if <int>FAILURE_END > <int>FAILURE_ROOM or <int>REFUSAL_END > <int>REFUSAL_ROOM or (
            <int>INTRODUCTION_END > <int>PROXY_REFUSAL_ROOM):
        raise ImportError("a family of counters has too little room")
    names[<int>CONNECTIONS_ACCEPTED] = "pingora_connections_accepted_total"
    names[<int>CONNECTIONS_OPEN] = "pingora_connections_open"
    names[<int>REQUESTS] = "pingora_requests_total"
    names[<int>REQUESTS_ACTIVE] = "pingora_requests_active"
    names[<int>ATTEMPTS] = "pingora_upstream_attempts_total"
    names[<int>RETRIES] = "pingora_retries_total"
    names[<int>ACCEPT_PAUSES + SHORT_OF_CONNECTIONS] = 'pingora_accept_pauses_total{reason="connections"}'
    names[<int>ACCEPT_PAUSES + SHORT_OF_DESCRIPTORS] = 'pingora_accept_pauses_total{reason="descriptors"}'
    names[<int>CLIENTS_REFUSED] = 'pingora_connections_refused_total{reason="client_connections"}'
    names[<int>CLOSED_IDLE] = 'pingora_connections_closed_total{reason="keep_alive"}'
    names[<int>CLOSED_STALLED] = 'pingora_connections_closed_total{reason="client_stalled"}'
    names[<int>CLOSED_READS_SLOWLY] = 'pingora_connections_closed_total{reason="client_reads_slowly"}'
    names[<int>CLOSED_REQUESTS] = 'pingora_connections_closed_total{reason="connection_requests"}'
    names[<int>CLOSED_HANDSHAKE] = 'pingora_connections_closed_total{reason="handshake_timeout"}'
    names[<int>CLOSED_HALF] = 'pingora_connections_closed_total{reason="half_close"}'
    names[<int>CLOSED_LINGERING] = 'pingora_connections_closed_total{reason="lingering"}'
    names[<int>CLOSED_FLOOD] = 'pingora_connections_closed_total{reason="http2_flood"}'
    names[<int>CLOSED_HTTP2_ERROR] = 'pingora_connections_closed_total{reason="http2_error"}'
    names[<int>HTTP2_CONNECTIONS] = "pingora_http2_connections_total"
    names[<int>HANDSHAKES] = "pingora_tls_handshakes_total"
    names[<int>HANDSHAKE_FAILURES] = "pingora_tls_handshake_failures_total"
    names[<int>PROXY_HEADERS] = "pingora_proxy_headers_total"
    for i in range(1, <int>INTRODUCTION_END):
        reason = introduction_reason(i).decode("ascii")
        names[<int>PROXY_REFUSALS + i] = f'pingora_connections_refused_total{{reason="{reason}"}}'
    names[<int>ENDPOINT_OUTAGES] = "pingora_endpoint_outages_total"
    names[<int>ENDPOINT_RETURNS] = "pingora_endpoint_returns_total"
    names[<int>TCP_SESSIONS] = "pingora_tcp_sessions_total"
    names[<int>TCP_SESSIONS_ACTIVE] = "pingora_tcp_sessions_active"
    names[<int>TCP_RECEIVED] = 'pingora_tcp_bytes_total{direction="received"}'
    names[<int>TCP_SENT] = 'pingora_tcp_bytes_total{direction="sent"}'
    names[<int>UPSTREAMS_CLOSED_IDLE] = 'pingora_upstream_connections_closed_total{reason="idle_timeout"}'
    names[<int>UPSTREAMS_CLOSED_FULL] = 'pingora_upstream_connections_closed_total{reason="pool_full"}'
    names[<int>REPLAYS_GIVEN_UP] = "pingora_replays_given_up_total"
    names[<int>LOOP_BLOCKED] = "pingora_loop_blocked_total"
    names[<int>H2_CONNECTS] = "pingora_upstream_h2_connections_total"
    names[<int>H2_CONNECTIONS_OPEN] = "pingora_upstream_h2_connections_open"
    names[<int>H2_WAITS] = "pingora_upstream_h2_waits_total"
    names[<int>H2_GOAWAYS] = "pingora_upstream_h2_goaways_total"
    names[<int>H2_REFUSED_STREAMS] = "pingora_upstream_h2_refused_streams_total"
    names[<int>H2_PING_TIMEOUTS] = "pingora_upstream_h2_ping_timeouts_total"
    names[<int>H2_GUARDED] = "pingora_upstream_h2_floods_total"
    names[<int>BUFFERS_HELD] = "pingora_buffers_bytes"
    names[<int>UPSTREAM_IDLE] = "pingora_upstream_connections_idle"
    for i in range(1, 6):
        names[<int>ANSWERS + i] = f'pingora_responses_total{{class="{i}xx"}}'
    for i in range(<int>OK + 1, <int>FAILURE_END):
        reason = failure_reason(i).decode("ascii")
        names[<int>FAILURES + i] = f'pingora_failures_total{{reason="{reason}"}}'
        if is_upstream_failure(i):
            names[<int>ATTEMPT_FAILURES + i] = f'pingora_upstream_failures_total{{reason="{reason}"}}'
    for i in range(<int>REFUSAL_END):
        reason = refusal_reason(i).decode("ascii")
        if reason not in NEVER_REFUSED:
            names[<int>REFUSALS + i] = f'pingora_refusals_total{{reason="{reason}"}}'
    return tuple(names)


# By Counter; "" where nothing is counted. Two refusals with one reason share a name, and their numbers are added.
COUNTER_NAMES = make_names()
