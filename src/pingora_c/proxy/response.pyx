"""Answers made in Python. Own their head and body."""
cimport cython

import asyncio
from collections.abc import AsyncIterable

from pingora_c.http.message import ResponseHead as MakeHead


@cython.final
cdef class Response:
    """An answer that a hook returns instead of going on.

    `headers` is a mapping or an iterable of pairs. `body` is bytes, str (sent as UTF-8) or an asynchronous iterable of
    bytes, which is sent chunk by chunk as it comes, at the client's pace. Content-Length is written by the proxy.
    Raises ValueError for a status outside 200–599 and for headers that may not be written.
    """

    def __init__(self, status=200, headers=None, body=b""):
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise ValueError(f"Response: expected a status from 200 to 599, got {status!r}")
        self.head = <ResponseHead>MakeHead(status, headers)
        self.body = b""
        if isinstance(body, AsyncIterable):
            self.stream = body
        elif isinstance(body, str):
            self.body = body.encode()
        elif isinstance(body, (bytes, bytearray, memoryview)):
            self.body = bytes(body)
        else:
            raise TypeError(f"Response: expected a body of bytes, str or an asynchronous iterable of bytes, "
                            f"got {type(body).__name__}")

    @staticmethod
    cdef Response of(ResponseHead head):
        """One with this head and no body."""
        cdef Response made = Response.__new__(Response)
        made.head = head
        made.body = b""
        return made

    cdef Response copy(self):
        cdef Response copied = Response.__new__(Response)
        copied.head = self.head.copy()
        if copied.head is None:
            raise MemoryError
        copied.body = self.body
        copied.stream = self.stream
        return copied

    @property
    def status(self):
        return self.head.status_code

    @property
    def headers(self):
        return self.head.headers

    def __repr__(self):
        size = "streamed" if self.stream is not None else f"{len(self.body)} bytes"
        return f"<Response {self.head.status_code} {size}>"


cdef enum:
    CHUNKS_PER_TURN = 16     # of a body, then others have their turn


async def send_all(session, stream):
    """Send the chunks of a Response's body as they come, waiting while the client takes none."""
    n_chunks = 0
    try:
        async for chunk in stream:
            n_chunks += 1
            if not isinstance(chunk, (bytes, bytearray, memoryview)):
                raise TypeError(f"Response: the body gave {type(chunk).__name__}, expected bytes")
            if session._write(bytes(chunk)):
                await session._room()
            elif n_chunks % CHUNKS_PER_TURN == 0:
                await asyncio.sleep(0)      # a stream that waits for nothing would leave nobody a turn
    finally:
        await leave(stream)


async def leave(stream):
    """Close the iterator of a Response's body: one that is left in the middle, or unread, ends now, not some day."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
