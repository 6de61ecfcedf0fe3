from typing import final

@final
class HookContext: ...
