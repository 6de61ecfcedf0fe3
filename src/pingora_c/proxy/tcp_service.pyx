"""The service of a TcpProxy. Owns what a ProxyService owns."""
cimport cython

from libc.stdint cimport uint32_t
from pingora_c.base.clock cimport now_us
from pingora_c.http.message cimport RequestHead
from pingora_c.log.writer cimport LogWriter
from pingora_c.net.reactor cimport Reactor
from pingora_c.proxy.access cimport ACCESS_OFF
from pingora_c.proxy.plan cimport Plan
from pingora_c.proxy.server_connection cimport ServerConnection
from pingora_c.proxy.service cimport read_limits, read_retry
from pingora_c.proxy.stream cimport Stream
from pingora_c.proxy.task cimport TaskStarter
from pingora_c.proxy.tcp_leg cimport TcpClient
from pingora_c.proxy.tcp_session cimport TCP_PHASE_END, TCP_UPSTREAM_PEER, TcpSession

from pingora_c.proxy.tcp_session import TCP_PHASES as _PHASES


def make_tcp_plan(Reactor reactor, proxy, tuple hooks, *, balancer, loop, report, LogWriter access_writer,
                  int access_format, dict limits, dict retry, double hook_timeout, dict hook_limits, tuple trusted,
                  bint reads_hello):
    """Make the plan of a TcpProxy; the arguments are those of `make_plan`, `hooks` in the order of TCP_PHASES.

    `reads_hello`: what TLS clients ask for is read, and nothing decrypted.
    """
    cdef Plan plan = Plan()
    if len(hooks) != TCP_PHASE_END:
        raise ValueError(f"hooks: expected {<int>TCP_PHASE_END} entries")
    if hooks[<int>TCP_UPSTREAM_PEER] is None and balancer is None:
        raise ValueError(f"{type(proxy).__name__}: override upstream_peer or set self.upstreams to a LoadBalancer")
    plan.proxy = proxy
    plan.hooks = hooks
    read_retry(retry, &plan.retry)
    plan.reactor = reactor
    plan.balancer = balancer
    plan.loop = loop
    plan.tasks = TaskStarter(loop)
    plan.on_hook_error = report.hook_raised
    plan.on_failure = report.failed
    plan.on_refused = report.refused
    plan.on_outage = report.outage
    plan.access_writer = access_writer
    plan.access_format = access_format if access_writer is not None else ACCESS_OFF
    plan.trusted = trusted
    plan.reads_hello = reads_hello
    plan.hook_timeout_ms = <uint32_t>(hook_timeout * 1000)
    for name in hook_limits:
        if name not in _PHASES:
            raise ValueError(f"hook_timeouts: {type(proxy).__name__} has no hook {name!r}")
    if hook_limits:
        plan.hook_timeouts_ms = {_PHASES.index(name): int(limit * 1000) for name, limit in hook_limits.items()}
    read_limits(limits, &plan.limits)
    return plan


@cython.final
cdef class TcpService(ProxyService):
    """The listeners and client connections of one TcpProxy in this process; `plan` is of `make_tcp_plan`."""

    cdef int turn_away(self, int fd) except -1:
        return 0     # it may speak any protocol

    cdef ServerConnection new_connection(self):
        return TcpClient.__new__(TcpClient)

    cdef int begin(self, ServerConnection server, Stream stream, RequestHead head) noexcept:
        cdef TcpSession session = None
        try:
            session = TcpSession.__new__(TcpSession)
            session.client_address = server.client_text()
        except:
            return -1
        session.plan = self.plan
        session.client = <TcpClient>server
        session.started_us = now_us()
        (<TcpClient>server).session = session
        session.start()
        return 0
