"""Where the agent answers beside the services: health probes and metrics. Its sockets are held by the supervisor."""

from pingora.supervisor.generation import Generation
from pingora.supervisor.options import Options
from pingora.supervisor.sockets import SlotSockets, keys_of


class Ports:
    """The sockets of the agent, and what each is for. `metrics` is where the program wants its own shown."""

    def __init__(self) -> None:
        self.sockets = SlotSockets(1)

    def wanted(self, options: Options, metrics: str | None) -> dict[str, str]:
        """Give the addresses by role; what the options say goes before what the program does."""
        named = {"health": options.health, "metrics": options.metrics or metrics}
        return {role: address for role, address in named.items() if address}

    def open(self, options: Options, metrics: str | None) -> list[str]:
        """Open what is not open yet; return the keys of what is new. Raises UsageError."""
        return self.sockets.open(list(self.wanted(options, metrics).values()))

    def give(self, options: Options, generation: Generation) -> None:
        """Give a generation what its agent needs. Raises Refused."""
        wanted = self.wanted(options, generation.metrics)
        roles = dict(zip(wanted, keys_of(wanted.values()), strict=True))
        generation.send_probes(self.sockets, roles)

    def keep_only(self, options: Options, generation: Generation) -> None:
        """Close what this generation does not want."""
        self.sockets.keep_only(list(self.wanted(options, generation.metrics).values()))
