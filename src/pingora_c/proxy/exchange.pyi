from typing import final

from pingora_c.proxy.attempts import Attempts

@final
class Exchange(Attempts): ...
