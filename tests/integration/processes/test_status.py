"""What the status says of generations and workers that start or drain."""

import threading

from conversations import wait_until
from running import TCP_SOURCE

HELD = """
class Held(Proxy):
    async def worker_start(self):
        while os.path.exists("PATH.held"):
            await asyncio.sleep(0.01)

server = pingora.Server()
server.add_proxy(Held(), "127.0.0.1:0")
"""


def states(running):
    """Give the state of each generation, and those of its workers by their places."""
    return {
        generation["number"]: (generation["state"], {one["number"]: one["state"] for one in generation["workers"]})
        for generation in running.ask("status")["status"]["generations"]
    }


def connect_to(running, number):
    """Connect until the worker at this place has a client; give the connections."""
    clients = []

    def has_client():
        clients.append(running.connect("/download"))
        workers = running.ask("status")["status"]["generations"][0]["workers"]
        return next(one["connections"] for one in workers if one["number"] == number)

    wait_until(has_client)
    return clients


def test_a_worker_without_a_place_drains(proxy):
    running = proxy("--workers", "2", source=TCP_SOURCE.replace("sleep(0.05)", "sleep(3600)"))
    running.both()
    clients = connect_to(running, 1)
    running.ask("scale", workers=1)
    assert states(running) == {1: ("serving", {0: "serving", 1: "draining"})}
    for client in clients:
        client.close()
    wait_until(lambda: states(running) == {1: ("serving", {0: "serving"})})


def test_a_generation_starts_and_then_the_one_before_drains(proxy, tmp_path):
    running = proxy("--workers", "1", source=TCP_SOURCE.replace("sleep(0.05)", "sleep(3600)") + HELD)
    clients = connect_to(running, 0)
    held = tmp_path / "proxy.sock.held"
    held.touch()
    reload = threading.Thread(target=running.ask, args=("reload",))
    reload.start()
    wait_until(lambda: states(running).get(2) == ("starting", {0: "starting"}))
    assert states(running)[1] == ("serving", {0: "serving"})
    held.unlink()
    reload.join()
    assert states(running) == {1: ("draining", {0: "draining"}), 2: ("serving", {0: "serving"})}
    for client in clients:
        client.close()
