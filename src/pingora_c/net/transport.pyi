from typing import final

class Transport: ...

@final
class PlainTransport(Transport): ...

@final
class Tie:
    has_ended: bool
    @property
    def was_reset(self) -> bool: ...
