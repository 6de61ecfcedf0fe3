"""Runs what a page shows, as its reader would: files are saved, commands typed, outputs compared.

`python tests/docs/walkthrough.py PAGE DIRECTORY` does so with the programs of the PATH, and the ports as written. A
file is a block that begins with its name in a comment, or whose paragraph names it last. In what is shown `…` is
anything, and process ids may be others. `pingora run`, `make run` and what ends with & go on in the background; a new
`run` ends the one before, as Ctrl-C does. A block behind `<!-- not run: why -->` is left out.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [  # whose blocks are run, or say why not
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name / "README.md" for name in ("benches", "packaging")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
MARK = re.compile(r"<!-- not run: [^>]+ -->\s*\Z")
PORTS = re.compile(r"\b(8080|8081|8443|9001|9002|9003|9090)\b")
SUFFIXES = {"python": "py", "toml": "toml", "yaml": "yml"}
PATIENCE_S = 60.0
BUILD_S = 1800.0  # `make run` in a fresh clone


@dataclass
class Block:
    """One block of a page. `name` is the file that it is, "" if it is none."""

    line: int
    language: str
    text: str
    name: str
    is_left_out: bool


def blocks_of(page: str) -> Iterator[Block]:
    """Yield the blocks of a page in order."""
    for match in FENCE.finditer(page):
        before = page[: match.start()]
        named = re.match(r"# ([\w.-]+\.\w+)\n", match[2])
        told = re.findall(rf"`([\w-]+\.{SUFFIXES.get(match[1], '!')})`", before.rstrip().rpartition("\n\n")[2])
        name = "" if match[1] not in SUFFIXES else named[1] if named else told[-1] if told else ""
        yield Block(before.count("\n") + 1, match[1], match[2], name, bool(MARK.search(before)))


def commands_of(block: Block) -> Iterator[tuple[str, str]]:
    """Yield each command of a console with the output that is shown behind it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def telling_by_code(command: str) -> str:
    """Let curl fail where it is answered an error: its exit code is all that is looked at if no output is shown."""
    return re.sub(r"\bcurl ", "curl --fail ", command)


def is_as_shown(shown: str, output: str) -> bool:
    """Say whether an output is what the page shows."""
    pattern = ".*".join(map(re.escape, shown.strip().split("…")))
    pattern = re.sub(r"process\\ \d+", r"process\\ \\d+", pattern)
    return re.fullmatch(pattern, output.replace("\r", "").strip(), re.DOTALL) is not None


def ports_in_use(page: str) -> list[int]:
    """Give the ports that a page names and somebody listens on."""
    found = []
    for port in sorted({int(name) for name in PORTS.findall(page)}):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                found.append(port)
    return found


class Failed(Exception):
    """A command did not do what the page says."""


@dataclass
class Reader:
    """Somebody who follows a page in a directory. `ports` are those to take in place of the ones that are shown."""

    directory: Path
    environment: Mapping[str, str]
    ports: Mapping[str, int] = field(default_factory=dict)
    background: list[subprocess.Popen[bytes]] = field(default_factory=list)
    runs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def own(self, text: str) -> str:
        """Put our ports into a text."""
        return PORTS.sub(lambda match: str(self.ports.get(match[0], match[0])), text)

    def follow(self, page: str) -> int:
        """Do all that a page shows; return how many commands that were. Raises Failed."""
        count = 0
        for block in blocks_of(page):
            if block.is_left_out:
                continue
            if block.name:
                (self.directory / block.name).write_text(self.own(block.text))
            if block.language == "console":
                for command, shown in commands_of(block):
                    self.type(self.own(command), self.own(shown))
                    count += 1
        return count

    def type(self, command: str, shown: str) -> None:
        """Type a command and compare its output. Raises Failed."""
        if re.search(r"\b(pingora|make) run\b", command):
            self.end_run()
            begun = "…listening on…" if "pingora run" in command else "…The gateway listens on…"
            self.runs.append(self.start(command, shown or begun))
        elif command.rstrip().endswith("&"):
            self.background.append(self.start(command.rstrip().removesuffix("&"), shown or "…Serving…"))
        else:
            ended = subprocess.run(
                ["bash", "-c", command if shown else telling_by_code(command)],
                cwd=self.directory,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=10 * PATIENCE_S,
            )
            output = ended.stdout.decode()
            if shown and not is_as_shown(shown, output):
                raise Failed(f"$ {command}\nshown is:\n{shown}\nwhat came:\n{output}")
            if not shown and ended.returncode:
                raise Failed(f"$ {command}\nended with {ended.returncode}:\n{output}")
            if self.ports and (made := re.search(r"pingora init (\S+)", command)):  # its files name the usual ports
                for file in (self.directory / made[1]).glob("*.*"):
                    file.write_text(self.own(file.read_text()))

    def start(self, command: str, shown: str) -> subprocess.Popen[bytes]:
        """Start a command and wait until it has printed what is shown."""
        log = self.directory / f"output-{len(self.background) + len(self.runs)}"
        with log.open("wb") as output:
            started = subprocess.Popen(
                ["bash", "-c", command.strip()],
                cwd=self.directory,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + (BUILD_S if "make" in command else PATIENCE_S)
        while not is_as_shown(shown, log.read_text()):
            if started.poll() is not None or time.monotonic() > deadline:
                self.runs.append(started)
                raise Failed(f"$ {command}\nshown is:\n{shown}\nwhat came:\n{log.read_text()}")
            time.sleep(0.05)
        return started

    def end_run(self) -> None:
        """Press Ctrl-C."""
        for run in self.runs:
            end(run, signal.SIGINT)
        self.runs.clear()

    def close(self) -> None:
        """End everything that was started."""
        self.end_run()
        for started in self.background:
            end(started, signal.SIGTERM)


def end(process: subprocess.Popen[bytes], number: int) -> None:
    """Signal a command and all that it has started, and wait for its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main(page: str, directory: str) -> int:
    """Follow a page; return the exit code."""
    home = Path(directory)
    text = Path(page).read_text()
    if used := ports_in_use(text):
        print(f"{page}: its ports must be free, and somebody listens on {', '.join(map(str, used))} of 127.0.0.1")
        return 2
    (home / ".curlrc").write_text("silent\nshow-error\n")  # its progress is for terminals only
    environment = {**os.environ, "CURL_HOME": directory, "PYTHONUNBUFFERED": "1", "XDG_RUNTIME_DIR": directory}
    reader = Reader(home, environment)
    try:
        print(f"{page}: {reader.follow(text)} commands did what is shown")
    except Failed as problem:
        print(f"{page}: {problem}")
        return 1
    finally:
        reader.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
