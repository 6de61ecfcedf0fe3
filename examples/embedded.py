"""A proxy inside an asyncio program: served while the block runs, on a free port, on the program's own loop.

It needs httpx (`pip install httpx`) and is a whole program, so run it as one: `python examples/embedded.py`. While it
waits at a breakpoint inside the block, `curl` may talk to the address that it prints, too.
"""

import asyncio

import httpx

import pingora


class Stamping(pingora.ProxyHttp):
    def __init__(self, origin):
        self.upstreams = pingora.LoadBalancer([origin])

    def response_filter(self, session, response, ctx):
        response.headers["x-served-by"] = "pingora"


async def hello(reader, writer):
    """An origin: one request, one answer."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
    await writer.drain()
    writer.close()


async def main():
    origin = await asyncio.start_server(hello, "127.0.0.1", 0)
    host, port = origin.sockets[0].getsockname()
    proxy = Stamping(f"{host}:{port}")
    async with origin, pingora.serve(proxy) as serving, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://{serving.address}/")
        print(serving.address, answer.status_code, answer.headers["x-served-by"], answer.text)


if __name__ == "__main__":
    asyncio.run(main())
