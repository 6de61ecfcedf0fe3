"""The processes of an instance: a supervisor, the generation it starts, and the workers that the generation forks.

| file | concept | in the process of |
|---|---|---|
| `instance` | the supervisor: its signals, and what to do when something ends | supervisor |
| `spawner` | starts the processes that load the program | supervisor |
| `generation`, `worker` | the supervisor's side of a generation and of a worker | supervisor |
| `sockets` | the listening sockets of all worker slots | supervisor |
| `status`, `log_files`, `system`, `options` | what is shown; log files; the kernel; what can be set | supervisor |
| `processors` | how many there are for workers | command line, supervisor |
| `reloads`, `in_place` | a reload; that of a configuration by the processes that run | supervisor |
| `kept_rings` | memory of rings | supervisor |
| `published` | what the agent published | supervisor |
| `places` | which workers are started, replaced and let go | supervisor |
| `backoff` | when a worker that died is started again | supervisor |
| `stuck` | workers without a sign of life | supervisor |
| `daemon` | `--daemon` | supervisor, and the command that started it |
| `agent`, `health` | services and probes, once per instance | agent |
| `handover` | who comes before and after it in an upgrade | supervisor |
| `elders` | those before it whose workers still drain | supervisor |
| `process_one` | process 1 of a container, which upgrades leave alone | process 1, supervisor |
| `upgrade`, `predecessor` | both sides of an upgrade | old supervisor, new supervisor |
| `notify` | systemd | supervisor |
| `operators`, `control`, `paths` | the socket for operators, and where it is | supervisor, command line |
| `zygote` | loads the program, forks workers | generation |
| `code` | whether a reload finds other code | generation |
| `follower` | a worker's part in a reload in place | worker |
| `life`, `slots` | a worker from start to end; which listeners it watches | worker |
| `ebb` | memory given back when connections have gone | worker |
| `channel`, `board` | messages between them; memory that they share | all |
| `embedded` | the same processes below `server.run()` | |
"""

import contextlib
import os
import select
import signal

# What a supervisor acts on.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)


def say(text: str) -> None:
    """Write a text to stderr, by lines; lose one rather than wait for a reader."""
    with contextlib.suppress(OSError, ValueError):
        for line in f"pingora: {text}".split("\n"):
            if select.select([], [2], [], 0)[1]:
                os.write(2, f"{line}\n".encode()[: select.PIPE_BUF])


def describe(status: int) -> str:
    """Say how a process ended, from its wait status."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


class Refused(Exception):
    """Something that was asked for cannot be done, and nothing has changed; the message is for a person."""


def refusal(problems: list[str]) -> Refused:
    """Say why a configuration is refused."""
    return Refused("\n".join(["the configuration cannot be used:", *problems]))
