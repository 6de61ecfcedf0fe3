from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import final

@final
class Networks:
    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None: ...
    def __len__(self) -> int: ...
