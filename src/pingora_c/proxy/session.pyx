"""The face of an exchange. Owns nothing; starts only what hooks ask for."""
cimport cython

import asyncio
import logging

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from pingora_c.base.clock cimport now_us
from pingora_c.base.properties cimport read_by_table
from pingora_c.h1.framing cimport BODY_LENGTH
from pingora_c.http.field cimport NAME_EXPECT
from pingora_c.http.header_block cimport block_may_hold
from pingora_c.net.reactor cimport Reactor
from pingora_c.net.timer cimport timer_clear
from pingora_c.proxy.phases cimport SESSION_LOGGING
from pingora_c.proxy.failure cimport BODY_TOO_LARGE, make_error
from pingora_c.proxy.replay cimport Replay
from pingora_c.proxy.timings cimport Moments, Timings

from pingora_c.proxy.failure import SessionEnded

cdef object log = logging.getLogger("pingora")

cdef uint64_t NO_LIMIT = <uint64_t>1 << 63


cdef Exchange awaits_face = None     # while new_session runs: an argument of __cinit__ would cost a tuple


cdef object new_session(object exchange):
    global awaits_face
    awaits_face = <Exchange>exchange
    try:
        return Session.__new__(Session)
    finally:
        awaits_face = None


class _BodyFuture(asyncio.Future):
    """What `read_body` gives. Says so if it goes without anybody having waited: the hook saw no body."""

    def __init__(self, loop, request):
        asyncio.Future.__init__(self, loop=loop)
        self._request = request
        self._is_awaited = False

    def __await__(self):
        self._is_awaited = True
        return asyncio.Future.__await__(self)

    __iter__ = __await__

    def add_done_callback(self, callback, *, context=None):
        """As of every future; whoever calls it waits."""
        self._is_awaited = True
        asyncio.Future.add_done_callback(self, callback, context=context)

    def __del__(self):
        if not self._is_awaited and self.done() and not self.cancelled():
            log.warning("session.read_body() without await for %s: the hook went on without the body; "
                        "write `await session.read_body()`, in an `async def`", self._request)
        asyncio.Future.__del__(self)


@cython.final
@cython.freelist(8)
cdef class Session:
    """One request and its response, as hooks see it. Made by the core."""

    def __cinit__(self):
        if awaits_face is None:
            raise TypeError("Session: only the core makes one")
        self.exchange = awaits_face

    def read_body(self, size_t limit=1048576):
        """Wait for the whole body of the request and give it; it is still sent upstream.

        `limit` is in bytes; a longer body raises ProxyError (`body_too_large`), which answers 413 if the hook lets it
        pass. May be awaited until the request is sent upstream, and in the iterator of a Response, at best first: what
        comes before is kept up to `RetryPolicy.replay_bytes`. Raises RuntimeError later, SessionEnded at the end.
        """
        cdef Reactor reactor = self.exchange.plan.reactor
        cdef Replay replay = self.exchange.replay
        cdef object head = self.exchange.request_head
        if self.exchange.state >= SESSION_LOGGING:
            raise SessionEnded("read_body: the session has ended")
        if self.exchange.reader is not None and not self.exchange.reader.done():
            raise RuntimeError("read_body: somebody else waits for the body of this request")
        if self.exchange.abandoned is not None and asyncio.current_task() is self.exchange.abandoned:
            raise SessionEnded("read_body: the hook was cancelled")
        if self.exchange.request_sent:
            raise RuntimeError("read_body: the body is on its way upstream; call it in request_filter")
        future = _BodyFuture(self.exchange.plan.loop, f"{head.method} {head.target}")
        if (self.exchange.down.framing.kind == BODY_LENGTH and self.exchange.down.framing.length > limit
                or not self.exchange.can_replay()):
            future.set_exception(make_error(BODY_TOO_LARGE, None, None))
        elif self.exchange.down.body_done:
            future.set_result(b"" if replay is None else replay.complete())
        elif self.exchange.body_failure:
            future.set_exception(make_error(self.exchange.body_failure, None, self.exchange.down.trouble))
        else:
            if replay is None:
                self.exchange.replay = replay = Replay.new(limit)
            replay.limit = limit
            self.exchange.reader = future
            reactor.enter()
            if not self.exchange.is_cancelled:
                timer_clear(&self.exchange.timer)
            if block_may_hold(&self.exchange.request_head.block, NAME_EXPECT) and not self.exchange.sent_continue:
                self.exchange.sent_continue = True
                # ignored: without memory for it the client sends its body after a while (RFC 9110 §10.1.1)
                self.exchange.down.send_continue()
            if replay.size > limit:
                self.exchange.finish_reading(BODY_TOO_LARGE)
            else:
                self.exchange.down.resume_body()
            reactor.leave()
            asyncio.Future.add_done_callback(future, self._reading_ended)
        return future

    def _reading_ended(self, future):
        # whoever waited for the body gave up: what comes later waits for the next phase
        cdef Reactor reactor = self.exchange.plan.reactor
        if future.cancelled() and self.exchange.reader is future:
            reactor.enter()
            self.exchange.reader = None
            self.exchange.down.pause_body()
            self.exchange.on_body_read()
            reactor.leave()

    def pass_request_body(self):
        """Leave this request's body alone: no body filter sees it, and its Content-Length stays.

        Raises RuntimeError once a filter has begun: call it in upstream_request_filter or before.
        """
        if self.exchange.request_sent and self.exchange.request_bodies is not None:
            raise RuntimeError("pass_request_body: its filter has begun; call it in upstream_request_filter or before")
        self.exchange.passes_request = True

    def pass_response_body(self):
        """Leave this answer's body alone: no body filter sees it, and its Content-Length stays.

        Raises RuntimeError once a filter has begun: call it in response_filter or before.
        """
        if self.exchange.response_sent and self.exchange.response_bodies is not None:
            raise RuntimeError("pass_response_body: its filter has begun; call it in response_filter or before")
        self.exchange.passes_response = True

    def _write(self, bytes chunk not None):
        # part of a Response's body; True: wait for _room before the next
        cdef Reactor reactor = self.exchange.plan.reactor
        if self.exchange.state >= SESSION_LOGGING:
            raise SessionEnded("the session has ended")
        if not chunk:
            return False
        reactor.enter()
        self.exchange.keep_to_client(chunk)
        self.exchange.down.press()
        reactor.leave()
        return self.exchange.state < SESSION_LOGGING and self.exchange.down.is_full()

    def _room(self):
        # a future that is done when the client has taken what waits; it may be busy sending its body
        cdef Reactor reactor = self.exchange.plan.reactor
        future = self.exchange.drained = self.exchange.plan.loop.create_future()
        if self.exchange.reader is None and not self.exchange.down.body_done:
            reactor.enter()
            self.exchange.down.resume_body()
            reactor.leave()      # what waits may leave here, and end `drained`
        return future

    @property
    def request(self):
        """The client's request head; editing it after `upstream_request_filter` changes nothing."""
        return self.exchange.request_head

    @property
    def response(self):
        """The response head, None before there is one; in `logging` always one: 499 if nothing was answered."""
        return self.exchange.response_head

    @property
    def body_limit(self):
        """Bytes that the request's body may have, None for any number; 413 beyond. `Limits.body_bytes` at first.

        Set it in a hook before an upstream is chosen. Raises ValueError for a number below 0.
        """
        return None if self.exchange.body_limit >= NO_LIMIT else self.exchange.body_limit

    @body_limit.setter
    def body_limit(self, limit):
        if limit is not None and not isinstance(limit, int):
            raise TypeError(f"body_limit: expected a number of bytes or None, got {limit!r}")
        if limit is not None and not 0 <= limit < NO_LIMIT:
            raise ValueError(f"body_limit: expected a number of bytes or None, got {limit!r}")
        self.exchange.body_limit = NO_LIMIT if limit is None else limit

    @property
    def peer(self):
        """The HttpPeer in use or used last, None before one was chosen."""
        return self.exchange.chosen

    @property
    def upstream_protocol(self):
        """What is spoken with the upstream in use or used last, "h1" or "h2"; None: no HTTP, or no connection yet."""
        return None if self.exchange.spoken == NULL else self.exchange.spoken.decode("ascii")

    @property
    def client_address(self):
        """Address of the client, "ip:port", or "unix"."""
        return self.exchange.server.client_text()

    @property
    def server_address(self):
        """The address that the client connected to, "ip:port" or "unix:/path". Raises SessionEnded if it is gone."""
        cdef str text = self.exchange.server.local_text()
        if text is None:
            raise SessionEnded("server_address: the connection is closed")
        return text

    @property
    def proxy_protocol(self):
        """How a proxy in front introduced the client, by the PROXY protocol; None if it did not."""
        return self.exchange.server.introduction

    @property
    def websocket(self):
        """The WebSocket that the session carries, if `websocket_message` is overridden; else None."""
        websocket = self.exchange.websocket
        return websocket if websocket is not None and websocket.up_filter is not None else None

    @property
    def tls(self):
        """The TlsInfo of the client's connection, None if it is not encrypted."""
        return self.exchange.server.transport.describe()

    @property
    def timings(self):
        cdef Moments moments
        moments.started_us = self.exchange.started_us
        moments.head_us = self.exchange.head_us
        moments.connect_at_us = self.exchange.connect_at_us
        moments.connected_us = self.exchange.connected_us
        moments.first_byte_us = self.exchange.first_byte_us
        moments.ended_us = self.exchange.ended_us if self.exchange.ended_us else now_us()
        moments.hooks_us = self.exchange.in_hooks_us()
        return Timings.of(&moments)

    @property
    def attempts(self):
        """How many times an upstream was tried."""
        return self.exchange.n_attempts

    @property
    def reused(self):
        """Whether the last attempt went over a connection that was already open."""
        return bool(self.exchange.is_reused)

    @property
    def bytes_received(self):
        """Body bytes from the client."""
        return self.exchange.received_bytes

    @property
    def bytes_sent(self):
        """Body bytes to the client."""
        return self.exchange.sent_bytes

    @property
    def error(self):
        """The ProxyError of a session that failed, else None."""
        return self.exchange.error()


read_by_table(Session)
