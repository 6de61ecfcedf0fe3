"""A proxy with two Python hooks, each reading and setting a header: the workload `hooks`."""

import os

from pingora import LoadBalancer, ProxyHttp, Response, RoundRobin, Server, Session


class TwoHooks(ProxyHttp):
    def __init__(self) -> None:
        self.upstreams = LoadBalancer([os.environ["BENCH_ORIGIN"]], RoundRobin())

    def request_filter(self, session: Session, ctx: object) -> None:
        headers = session.request.headers
        headers["x-asked-for"] = headers.get("host", "")

    def response_filter(self, session: Session, response: Response, ctx: object) -> None:
        headers = response.headers
        headers["x-kind"] = headers.get("content-type", "")


server = Server()
server.add_proxy(TwoHooks(), listen=os.environ["BENCH_LISTEN"])
