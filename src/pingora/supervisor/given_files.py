"""What is read for the children of a supervisor, who may lack the right to: the configuration, certificates and keys.

Started as root with `user=` only the supervisor can read what belongs to root with mode 0600. It is read once for all,
so that all processes see the same bytes; what cannot be read is left to the children, who say what is wrong with it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pingora.program import Program
from pingora.supervisor import Refused, refusal
from pingora.supervisor.channel import Channel, Message, next_message, put_text
from pingora.supervisor.options import Options
from pingora.supervisor.system import start_module

READ_S = 60.0  # that reading may take


@dataclass(frozen=True)
class GivenFiles:
    """The text of the configuration, if there is one, and files by their path."""

    text: str | None = None
    contents: dict[str, bytes] = field(default_factory=dict)

    def to_message(self) -> dict[str, Any]:
        """Give what JSON can carry."""
        return {"text": self.text, "contents": {path: each.decode("latin-1") for path, each in self.contents.items()}}

    @classmethod
    def from_message(cls, fields: dict[str, Any]) -> "GivenFiles":
        """Undo `to_message`."""
        return cls(fields["text"], {path: each.encode("latin-1") for path, each in fields["contents"].items()})

    def put(self) -> int:
        """Give a descriptor to send them by; the caller closes it."""
        return put_text(json.dumps(self.to_message()))

    @classmethod
    def take(cls, message: Message) -> "GivenFiles":
        """Read what came as the first descriptor of a message."""
        return cls.from_message(json.loads(message.take_text()))


async def read_again(program: Program | None, given: Mapping[str, Any]) -> tuple[GivenFiles, Options | None]:
    """Read what a program names now, in a process that ends: reading a configuration takes more than we import.

    Gives the options of the processes too, if there is a configuration and it has no fault; the generation tells its
    faults, with those that only it can find. `given` are the options of the command line. Raises Refused.
    """
    if program is None or (program.config_file is None and not program.listen):
        return GivenFiles(), None
    channel, theirs = Channel.pair()
    try:
        with theirs:
            fd = theirs.fileno()
            start_module("pingora.supervisor.reading", fd)
        channel.send("read", program=program.to_message(), given=dict(given))
        answer = await next_message(channel, READ_S)
    except OSError as error:  # a timeout too
        raise Refused(f"cannot read what is to be served: {error}") from None
    finally:
        channel.close()
    if answer is None:
        raise Refused("the process that reads what is to be served ended before it was done")
    if answer.kind == "refused":
        raise refusal(answer["problems"])
    options = answer["options"]
    return GivenFiles.take(answer), None if options is None else Options(**options)
