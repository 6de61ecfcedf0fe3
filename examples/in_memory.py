"""Connections that are no sockets: a client, a proxy and an origin that talk to each other in memory.

A connection may be any object with `read`, `write` and `close`; this one is a pair of queues. So a test needs no
ports. It is a whole program: `python examples/in_memory.py`.
"""

import asyncio

import pingora


class End:
    """One end of a pipe in memory. What one end writes, at most 16 pieces ahead, the other one reads."""

    def __init__(self, incoming, outgoing):
        self.incoming = incoming
        self.outgoing = outgoing
        self.rest = b""

    async def read(self, n):
        data = self.rest or await self.incoming.get()
        self.rest = data[n:]
        return data[:n]

    async def write(self, data):
        await self.outgoing.put(data)

    async def close(self):
        await self.outgoing.put(b"")


def pipe():
    one, other = asyncio.Queue(16), asyncio.Queue(16)
    return End(one, other), End(other, one)


class InMemory(pingora.ProxyHttp):
    def __init__(self):
        # the address is a name in logs and of the pool; nothing connects to it
        self.peer = pingora.HttpPeer("unix:@origin", transport=pingora.Transport(self.open))

    async def open(self, address):
        here, there = pipe()
        self.origin = asyncio.create_task(answer(there))
        return here

    def upstream_peer(self, session, ctx):
        return self.peer

    def response_filter(self, session, response, ctx):
        response.headers["x-served-by"] = "pingora"


async def answer(end):
    """An origin: it answers requests without a body until the proxy leaves."""
    while await end.read(65536):
        await end.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


async def main():
    proxy = InMemory()
    async with pingora.serve(proxy, []):
        here, there = pipe()
        serving = asyncio.create_task(pingora.serve_connection(proxy, there, client="192.0.2.1:5000"))
        await here.write(b"GET / HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n")
        got = b""
        while data := await here.read(65536):
            got += data
        await here.close()
        await serving
    print(got.decode())


if __name__ == "__main__":
    asyncio.run(main())
