"""Python's own output in a worker: print() and logging through a LogWriter, so that neither ever stops the loop.

Every record begins with its time at the start of a line; lines that follow it (tracebacks, messages of several lines)
are indented. So no text that a client sent, logged by a hook, can pass for a record of its own.
"""

import atexit
import contextlib
import io
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any

from pingora_c.log.logger import ShortWay
from pingora_c.log.record import message_of, write_record
from pingora_c.log.writer import LogWriter

log = logging.getLogger("pingora.log")

STARTED = time.time()
LOOKS_PER_REPORT = 10  # while lines go on being lost
LONGEST_PENDING = 65536  # characters of an unfinished line that are kept back; then it goes out as it is


class BytesToWriter(io.RawIOBase):
    """The `buffer` of a StreamToWriter: bytes go to the writer as they come."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Queue `data` and return its size, also if it was dropped."""
        data = bytes(data)
        if data:
            self._writer.write(data)
        return len(data)


class StreamToWriter(io.TextIOBase):
    """A text stream to install as sys.stdout or sys.stderr: whole lines go to a LogWriter, nobody waits.

    Each thread's unfinished line is kept apart, so that lines of several threads do not mix. `fd` is what `fileno()`
    answers, for callers that hand it to a child process.
    """

    def __init__(self, writer: LogWriter, fd: int | None = None) -> None:
        self._writer = writer
        self._fd = fd
        self._pending: dict[int, str] = {}
        self.buffer = BytesToWriter(writer)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return "utf-8"."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """Return "backslashreplace": text that is not Unicode never raises."""
        return "backslashreplace"

    @property
    def line_buffering(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor given at the start, or raise io.UnsupportedOperation."""
        if self._fd is None:
            raise io.UnsupportedOperation("fileno")
        return self._fd

    def isatty(self) -> bool:
        """Return True if the descriptor is a terminal."""
        return self._fd is not None and os.isatty(self._fd)

    def write(self, text: str) -> int:
        """Queue the whole lines of `text`, keep back what follows the last line end; return its length."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        thread = get_ident()
        whole, newline, rest = text.rpartition("\n")
        if newline:
            self._queue(self._pending.pop(thread, "") + whole + newline)
        if rest:
            rest = self._pending.pop(thread, "") + rest
            if len(rest) < LONGEST_PENDING:
                self._pending[thread] = rest
            else:
                self._queue(rest)
        return len(text)

    def flush(self) -> None:
        """Queue this thread's unfinished line. Does not wait for it to be written."""
        rest = self._pending.pop(get_ident(), "")
        if rest:
            self._queue(rest)

    def close(self) -> None:
        """Only flush: the writer belongs to the worker."""
        self.flush()

    def _queue(self, text: str) -> None:
        if len(text) <= LONGEST_PENDING:
            self._writer.write(text)
        else:
            for line in text.splitlines(keepends=True):
                self._writer.write(line)


class PlainRecord(logging.LogRecord):
    """A LogRecord of a process that asks for no caller's place: the same attributes, made in a third of the time."""

    def __init__(
        self,
        name: str,
        level: int,
        pathname: str,
        lineno: int,
        msg: Any,
        args: Any,
        exc_info: Any,
        func: str | None = None,
        sinfo: str | None = None,
        **_: Any,
    ) -> None:
        if args and len(args) == 1 and isinstance(args[0], Mapping) and args[0]:
            args = args[0]  # log.info("%(a)s", {"a": 1}), as LogRecord has it
        created = time.time()
        self.name = name
        self.msg = msg
        self.args = args
        self.levelname = logging.getLevelName(level)
        self.levelno = level
        self.pathname = self.filename = pathname
        self.module = "Unknown module"
        self.exc_info = exc_info
        self.exc_text = None
        self.stack_info = sinfo
        self.lineno = lineno
        self.funcName = func  # type: ignore[assignment]
        self.created = created
        self.msecs = created % 1 * 1000
        self.relativeCreated = (created - STARTED) * 1000
        self.thread = self.threadName = self.processName = self.process = self.taskName = None


class LogHandler(logging.Handler):
    """A logging handler that writes `2026-11-24T19:40:37.123Z INFO gateway: message` through a LogWriter.

    It takes no lock (the writer has one) and asks for no caller's place. With `setFormatter` it becomes an ordinary
    handler that still never waits.
    """

    def __init__(self, writer: LogWriter, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self._writer = writer

    def createLock(self) -> None:
        """Have none: Handler's own acquire and release then do nothing."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Write one record if the filters let it pass."""
        if self.filters and not self.filter(record):
            return False
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; one that cannot be formatted is written as it is, with the reason."""
        if self.formatter is not None:
            self._emit_formatted(self.formatter, record)
            return
        message = message_of(record.msg, record.args)
        has_trace = record.exc_info or record.exc_text or record.stack_info
        trace = self._trace_of(record) if has_trace else ""
        write_record(self._writer, record.created, record.levelname, record.name, message, trace)

    def _emit_formatted(self, formatter: logging.Formatter, record: logging.LogRecord) -> None:
        try:
            self._writer.write(formatter.format(record) + "\n")
        except Exception:
            self.handleError(record)

    def _trace_of(self, record: logging.LogRecord) -> str:
        text = record.exc_text or ""
        if record.exc_info and not text:
            text = "".join(traceback.format_exception(*record.exc_info))
        return f"{text.rstrip()}\n{record.stack_info}" if record.stack_info else text


class Losses:
    """Reports the lines that writers dropped: when no more are lost, or now and then.

    `own` is the writer that the reports themselves go to: one that it drops is made again later.
    """

    def __init__(self, writers: dict[str, LogWriter], own: LogWriter) -> None:
        self._writers = writers
        self._own = own
        self._reported = dict.fromkeys(writers, 0)
        self._seen = dict.fromkeys(writers, 0)
        self._looks = dict.fromkeys(writers, 0)
        self._errors = dict.fromkeys(writers, 0)

    def look(self, is_last: bool = False) -> None:
        """Report what is due; call this at regular times, and with `is_last` at the end."""
        for name, writer in self._writers.items():
            dropped = writer.dropped
            is_growing = dropped != self._seen[name]
            self._seen[name] = dropped
            if dropped == self._reported[name]:
                continue
            self._looks[name] += 1
            if is_last or not is_growing or self._looks[name] >= LOOKS_PER_REPORT:
                self._report(name, dropped)

    def _report(self, name: str, dropped: int) -> None:
        before, errors = self._own.dropped, self._writers[name].errors
        is_failing = errors != self._errors[name]
        why = "they cannot be written" if is_failing else "nobody reads them fast enough"
        log.warning("%d lines for %s were dropped: %s", dropped - self._reported[name], name, why)
        self._errors[name] = errors
        self._looks[name] = 0
        if self._own.dropped == before:
            self._reported[name] = dropped
            return
        for other, writer in self._writers.items():
            if writer is self._own:
                self._reported[other] += 1  # the report, which is no loss
                self._seen[other] += 1


def set_level(level: int | str) -> None:
    """Log from this level on, unless the program configured logging itself."""
    root = logging.getLogger()
    if any(isinstance(handler, LogHandler) for handler in root.handlers):
        root.setLevel(level.upper() if isinstance(level, str) else level)


def configure(stdout: LogWriter, stderr: LogWriter, level: int | str = logging.INFO) -> Callable[[], None]:
    """Send print() and logging of this process through two writers; return a function that undoes it.

    The root logger gets a handler, a level and logging's module-wide switches (no thread, process and task names, no
    caller's place, no tracebacks of its own) only if nobody configured it before. Both writers are flushed when the
    interpreter ends.
    """
    root = logging.getLogger()
    names = ("raiseExceptions", "_srcfile", "logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks")
    factory = logging.getLogRecordFactory()
    switches = {name: getattr(logging, name) for name in names if hasattr(logging, name)}
    streams = sys.stdout, sys.stderr
    old_level = root.level
    short_way: ShortWay | None = None
    handler = None if root.handlers else LogHandler(stderr)

    def flush() -> None:
        for stream, writer in ((sys.stdout, stdout), (sys.stderr, stderr)):
            with contextlib.suppress(ValueError):
                stream.flush()
            writer.flush(1.0)

    def restore() -> None:
        flush()
        atexit.unregister(flush)
        sys.stdout, sys.stderr = streams
        if handler is not None:
            root.removeHandler(handler)
            root.setLevel(old_level)
            logging.setLogRecordFactory(factory)
            if short_way is not None:
                short_way.remove()
            for name, value in switches.items():
                setattr(logging, name, value)

    for stream in streams:
        if stream is not None:
            stream.flush()
    sys.stdout, sys.stderr = StreamToWriter(stdout, 1), StreamToWriter(stderr, 2)
    if handler is not None:
        root.addHandler(handler)
        root.setLevel(level)
        for name in switches:
            setattr(logging, name, False)
        if factory is logging.LogRecord:
            logging.setLogRecordFactory(PlainRecord)
        short_way = ShortWay(stderr, handler)
        short_way.install()
    atexit.register(flush)
    return restore
