"""Reload of a configuration by the processes that run: all build it aside, then all take it over, or all drop it.

The supervisor leads: it reads the file once, so that all see the same bytes, and opens new listeners. The generation
checks it first, with the user's code, and keeps it for workers that it forks later. `follower` is a worker's part.
"""

import asyncio
import os

from pingora.supervisor import Refused, refusal
from pingora.supervisor.generation import Generation
from pingora.supervisor.given_files import GivenFiles
from pingora.supervisor.sockets import SlotSockets
from pingora.usage import UsageError

CHECK_S = 120.0  # that a generation may take to build a configuration
PREPARE_S = 60.0  # that workers may take
COMMIT_S = 5.0  # that they may take to say that they have taken it over


async def change_in_place(generation: Generation, sockets: SlotSockets, file: str, given: GivenFiles) -> bool:
    """Have a generation and its workers serve what the file says now. Raises Refused, and then nothing has changed.

    False, and nothing has changed either, if the code of the program is not what it was: that takes a new generation.
    """
    fd = given.put()
    new: list[str] = []
    try:
        checked = await generation.check(file, fd, CHECK_S)
        if checked["problems"]:
            raise refusal(checked["problems"])
        if checked["changed"]:
            return False
        addresses: list[str] = checked["addresses"]
        new = sockets.open(addresses)
        await prepare_workers(generation, sockets, new, file, fd, addresses)
    except BaseException as error:
        generation.drop(new)
        sockets.close(new)
        if isinstance(error, UsageError):
            raise Refused(str(error)) from None
        raise
    finally:
        os.close(fd)
    # First the old sockets go: those of the same port, as of ":80" beside "[::]:80", would go on to get its clients.
    sockets.keep_only(addresses)
    await generation.commit(COMMIT_S)
    generation.addresses = addresses
    generation.has_agent = checked["has_agent"]
    return True


async def prepare_workers(
    generation: Generation, sockets: SlotSockets, new: list[str], file: str, fd: int, addresses: list[str]
) -> None:
    """Give new listeners to all processes and let all workers prepare. Raises Refused if one cannot."""
    generation.send_sockets(sockets, new)
    answers = [worker.prepare(file, fd, addresses) for worker in generation.followers]
    _, waiting = await asyncio.wait(answers, timeout=PREPARE_S) if answers else (set(), set())
    if waiting:
        raise Refused(f"{len(waiting)} of {len(answers)} workers were not ready after {PREPARE_S:.0f} s")
    problems = dict.fromkeys(problem for answer in answers for problem in answer.result())
    if problems:
        raise refusal(list(problems))
