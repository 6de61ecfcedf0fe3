from typing import final

from pingora_c.proxy.phases import Phases

@final
class Exchange(Phases): ...
