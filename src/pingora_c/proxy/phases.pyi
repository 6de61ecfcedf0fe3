import asyncio
from typing import Any

from pingora_c.proxy.relay import Relay

class Phases(Relay):
    def on_task_done(self, task: asyncio.Future[Any]) -> None: ...
