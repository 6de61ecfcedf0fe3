"""An origin behind an SSH server: the proxy reaches it as `ssh -L` would, over one connection of SSH.

It needs asyncssh (`pip install asyncssh`) and a key that the server takes. Then

    curl http://127.0.0.1:8080/        what 127.0.0.1:3000 answers, as the SSH server sees that address
"""

import asyncio

import asyncssh

from pingora import HttpPeer, ProxyHttp, Server, Transport

LISTEN = "127.0.0.1:8080"
SSH = {"host": "bastion.example", "username": "deploy"}  # and all that asyncssh.connect takes
ORIGIN = "127.0.0.1:3000"


class ThroughSsh(ProxyHttp):
    def __init__(self, origin=ORIGIN, ssh=SSH):
        self.ssh = ssh
        self.connection = None
        self.peer = HttpPeer(origin, transport=Transport(self.open))

    async def worker_start(self):
        self.connecting = asyncio.Lock()

    async def worker_stop(self):
        if self.connection is not None:
            self.connection.close()

    async def open(self, address):
        async with self.connecting:
            if self.connection is None or self.connection.is_closed():
                self.connection = await asyncssh.connect(**self.ssh)
        host, _, port = address.rpartition(":")
        return await self.connection.open_connection(host, int(port))

    def upstream_peer(self, session, ctx):
        return self.peer


server = Server()
server.add_proxy(ThroughSsh(), LISTEN)

if __name__ == "__main__":
    server.run()
