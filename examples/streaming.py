"""Server-sent events: an answer whose body comes from an asynchronous generator, at the client's pace.

All other paths go upstream; for those start an origin: `python3 -m http.server 9001`. Try

    curl -N http://127.0.0.1:8080/events     an event per second until you press Ctrl-C, which ends the generator
"""

import asyncio
import itertools
import time

from pingora import LoadBalancer, ProxyHttp, Response, Server

LISTEN = "127.0.0.1:8080"
ORIGINS = ["127.0.0.1:9001"]
EVENT_STREAM = {"content-type": "text/event-stream", "cache-control": "no-store"}


class Events(ProxyHttp):
    def __init__(self, origins=ORIGINS, pause=1.0):
        self.upstreams = LoadBalancer(origins)
        self.pause = pause
        self.listening = 0

    def request_filter(self, session, ctx):
        if session.request.path == "/events":
            return Response(200, EVENT_STREAM, self.events())

    async def events(self):
        self.listening += 1
        try:
            for number in itertools.count(1):
                yield f"id: {number}\ndata: {time.strftime('%X')}, {self.listening} listening\n\n".encode()
                await asyncio.sleep(self.pause)
        finally:
            self.listening -= 1  # runs when the client leaves


server = Server()
server.add_proxy(Events(), LISTEN)

if __name__ == "__main__":
    server.run()
