"""Reads what a program names, without running code of the user's: at the start, and in a process of its own later."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from pingora.config.text import read_text
from pingora.program import Program
from pingora.supervisor.channel import Channel
from pingora.supervisor.given_files import GivenFiles
from pingora.usage import ConfigError


def read_given_files(program: Program) -> GivenFiles:
    """Read what a program names. Raises ConfigError."""
    if program.config_file is not None:
        from pingora.config.reader import read_tables  # only here: other programs need none of it
        from pingora.config.tls import files_of

        text = read_text(Path(program.config_file))
        return GivenFiles(text, read_all(files_of(*read_tables(program.config_file, text))))
    if any("?" in text for text in program.listen):
        from pingora.tls.listen import files_of_address

        return GivenFiles(None, read_all(path for text in program.listen for path in files_of_address(text)))
    return GivenFiles()


def read_all(paths: Iterable[str]) -> dict[str, bytes]:
    """Read the files that can be read."""
    contents: dict[str, bytes] = {}
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            contents[path] = Path(path).read_bytes()
    return contents


def answer(channel: Channel) -> None:
    """Answer the one question that comes."""
    message = channel.receive()
    if message is None:
        return
    program = Program.from_message(message["program"])
    options = None
    try:
        files = read_given_files(program)
        if program.config_file is not None:
            from pingora.config.processes import make_options
            from pingora.config.reader import read_config

            config = None
            with contextlib.suppress(ConfigError):  # whose faults the generation tells
                config = read_config(program.config_file, files.text)
            if config is not None:
                options = asdict(make_options(message["given"], config, program.name))
    except ConfigError as error:
        channel.send("refused", problems=error.problems)
        return
    fd = files.put()
    channel.send("read", [fd], options=options)
    os.close(fd)


if __name__ == "__main__":
    answer(Channel(socket.socket(fileno=int(sys.argv[1]))))
