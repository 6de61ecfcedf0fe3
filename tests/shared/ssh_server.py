"""An SSH server of asyncssh that forwards connections, in a thread."""

import asyncio
import contextlib
import threading

import asyncssh


class Forwarding(asyncssh.SSHServer):
    def connection_requested(self, dest_host, dest_port, orig_host, orig_port):
        return True


@contextlib.contextmanager
def ssh_server():
    """Serve on a free port; what asyncssh.connect needs to get in."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    user_key = asyncssh.generate_private_key("ssh-ed25519")
    known = asyncssh.import_authorized_keys(user_key.export_public_key().decode())

    async def start():
        return await asyncssh.listen(
            "127.0.0.1", 0, server_factory=Forwarding, server_host_keys=[host_key], authorized_client_keys=known
        )

    async def stop(server):
        server.close()
        await server.wait_closed()

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    try:
        yield {
            "host": "127.0.0.1",
            "port": server.get_port(),
            "username": "deploy",
            "client_keys": [user_key],
            "known_hosts": ([asyncssh.import_public_key(host_key.export_public_key())], [], []),
        }
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
