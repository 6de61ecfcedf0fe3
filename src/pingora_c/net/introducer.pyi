from typing import final

from pingora_c.net.listener import Acceptor
from pingora_c.net.networks import Networks
from pingora_c.net.reactor import Reactor

def n_newcomers(reactor: Reactor) -> int: ...

@final
class Introducer(Acceptor):
    def __init__(
        self, reactor: Reactor, behind: Acceptor, trusted: Networks, is_required: bool, limit_ms: int
    ) -> None: ...

@final
class Newcomer: ...
