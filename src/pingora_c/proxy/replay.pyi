from typing import final

@final
class Replay: ...
