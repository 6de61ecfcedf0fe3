"""Clients that a proxy in front introduces by the PROXY protocol: an Acceptor before the one that serves them, so that
TLS and every protocol behind it see a connection whose client is the one that was named.

What arrived is looked at in the socket (MSG_PEEK) and only the header is taken out, so nothing has to be handed on.
"""
cimport cython
from libc.stdint cimport uint32_t
from pingora_c.lib.socket cimport sockaddr_storage
from pingora_c.net.listener cimport Acceptor
from pingora_c.net.networks cimport Networks
from pingora_c.net.proxy_protocol cimport ProxyProtocol
from pingora_c.net.reactor cimport EventSource, Reactor
from pingora_c.net.timer cimport Timer

# Counters of connections that were refused: PROXY_REFUSALS + -ProxyCode, or one of these behind them.
cdef enum IntroductionRefusal:
    INTRODUCED_BY_STRANGER = 8     # a header from a peer that is not trusted
    INTRODUCTION_TOO_SLOW = 9
    INTRODUCTION_CUT = 10          # the connection ended within the header
    INTRODUCTION_END


@cython.final
cdef class Introducer(Acceptor):
    cdef Reactor reactor
    cdef Acceptor behind               # serves the connection then
    cdef Networks trusted              # who may introduce clients, beside Unix sockets
    cdef bint is_required              # they must
    cdef uint32_t limit_ms
    # The header of `fd` has come (`introduction`), or there is none: serve it, or close it.
    cdef void hand_over(self, int fd, const sockaddr_storage* peer, ProxyProtocol introduction) noexcept
    cdef void refuse(self, int fd, const sockaddr_storage* peer, int refusal) noexcept
    cdef void forget(self) noexcept    # a newcomer is one no more


# A connection whose header is incomplete.
@cython.final
cdef class Newcomer(EventSource):
    cdef Introducer introducer
    cdef int fd                        # owned, -1 once handed over or closed
    cdef sockaddr_storage peer
    cdef bint is_trusted
    cdef Timer timer
    # Look at what came: True once that was the last look.
    cdef bint look(self, bint has_ended) noexcept
    cdef void end_wait(self) noexcept
    cdef void on_timeout(self) noexcept


cdef const char* introduction_reason(int refusal) noexcept nogil
