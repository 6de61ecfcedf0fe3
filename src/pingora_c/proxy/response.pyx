"""Answers made in Python. Own their head and body."""
cimport cython

from pingora_c.http.message import ResponseHead as MakeHead


@cython.final
cdef class Response:
    """An answer that a hook returns instead of going on.

    `headers` is a mapping or an iterable of pairs, `body` bytes or str (sent as UTF-8). Content-Length is written by
    the
    proxy. Raises ValueError for a status outside 200–599 and for headers that may not be written.
    """

    def __init__(self, status=200, headers=None, body=b""):
        if not 200 <= status <= 599:
            raise ValueError(f"Response: expected a status from 200 to 599, got {status!r}")
        self.head = <ResponseHead>MakeHead(status, headers)
        self.body = body.encode() if isinstance(body, str) else bytes(body)

    @property
    def status(self):
        return self.head.status_code

    @property
    def headers(self):
        return self.head.headers

    def __repr__(self):
        return f"<Response {self.head.status_code} {len(self.body)} bytes>"
