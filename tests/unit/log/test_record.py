"""Logging calls that make no LogRecord."""

import logging
import os
import random
import re

import pytest

from pingora.observe.logs import configure
from pingora_c.log.record import write_record
from pingora_c.log.writer import LogWriter

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")


class Written:
    """What was written since it was asked last."""

    def __init__(self, path):
        self.path = path
        self.writer = LogWriter(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        self.seen = 0

    def __call__(self):
        assert self.writer.flush(10)
        whole = self.path.read_text()
        new, self.seen = whole[self.seen :], len(whole)
        return new


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A function that sets logging up as a worker has it: in the test, since pytest adds handlers after fixtures."""
    written = Written(tmp_path / "log")
    undo = []

    def configured():
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        undo.append(configure(written.writer, written.writer))
        return written

    yield configured
    monkeypatch.undo()
    for restore in undo:
        restore()
    written.writer.close()


class Seen(logging.Handler):
    """Keeps the messages of records."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


@pytest.fixture
def no_records(monkeypatch):
    """Let a LogRecord fail the test."""

    def install():
        monkeypatch.setattr("pingora.observe.logs.LogHandler.emit", lambda *_: pytest.fail("a record was made"))

    return install


MESSAGES = [
    ("plain 100%",),
    ("%s %d", "a", 1),
    ("%s%d", "", 2**63),
    ("%s %d %s %d", -(2**63), 2**63 - 1, -1, 0),
    ("%%%s%%", "a"),
    ("%d", True),
    ("%d", 2.5),
    ("%s", 1.5),
    ("%5d|%-3s|%05.1f", 1, "a", 2.5),
    ("%s", "é"),
    ("%s", 3000 * "x"),
    ("%s", 1, 2),
    ("%s %s", 1),
    ("%s %", 1),
    ("%s %.", 1),
    ("%.1f %.0f %.3f", 12.34, 0.5, -0.0),
    ("%.2f %.6f", -0.001, 123.4567895),
    ("%.1f %.1f %.1f", float("nan"), float("inf"), 1e300),
    ("%(a)s", {"a": 1}),
    ("%s", {}),
    ("%s", ["a"]),
    ("%s", ""),
    (ValueError("x"),),
    (ValueError("%s"), "y"),
    ("%d", "a"),
    ("é\u2028",),
    ("a\nb\r\x1b[31m\x00\x7f",),
    ("tab\t",),
    ("lone \ud800",),
    ("long " + 3000 * "x",),
    ("",),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: ascii(message)[:30])
@pytest.mark.parametrize("level", [logging.INFO, logging.CRITICAL, 35])
def test_line_is_the_same_as_that_of_a_record(start, no_records, message, level):
    written = start()
    log = logging.getLogger("a.b")
    log.addFilter(lambda record: True)
    log.log(level, *message)
    log.filters.clear()
    with_record = written()
    no_records()
    log.log(level, *message)
    at_once = written()
    assert STAMP.match(at_once)
    assert at_once.partition(" ")[2] == with_record.partition(" ")[2]


def test_floats_are_rounded_as_python_rounds_them(start, no_records):
    numbers = [at + by for at in (0.05, 0.25, 0.35, 1.005, 2.675, 999.95, 99999.995) for by in (-1e-9, 0.0, 1e-9)]
    numbers += [-number for number in numbers] + [random.Random(7).uniform(0, 1e5) for _ in range(200)]
    written = start()
    no_records()
    for number in numbers:
        logging.getLogger("a").info("%.0f %.1f %.2f %.3f %.6f", *5 * [number])
    expected = ["%.0f %.1f %.2f %.3f %.6f" % (5 * (number,)) for number in numbers]
    assert [line.partition("a: ")[2] for line in written().splitlines()] == expected


def watch_with(kind, seen, monkeypatch):
    """Make `seen` one more observer of what the logger "a.b" says, and give the logger."""
    log = logging.getLogger("a.b")
    root = logging.getLogger()

    def note(record):
        seen.emit(record)
        return True

    if kind == "handler":
        monkeypatch.setattr(log, "handlers", [seen])
    elif kind == "handler of a parent":
        monkeypatch.setattr(logging.getLogger("a"), "handlers", [seen])
    elif kind == "handler of the root":
        monkeypatch.setattr(root, "handlers", [*root.handlers, seen])
    elif kind == "filter":
        monkeypatch.setattr(log, "filters", [note])
    elif kind == "filter of the handler":
        monkeypatch.setattr(root.handlers[0], "filters", [note])
    elif kind == "record factory":
        usual = logging.getLogRecordFactory()

        def factory(*args, **kwargs):
            record = usual(*args, **kwargs)
            seen.emit(record)
            return record

        monkeypatch.setattr(logging, "_logRecordFactory", factory)
    elif kind == "handler of a parent that comes later":
        log = logging.getLogger("later.b")
        log.warning("nobody else listens")
        logging.getLogger("later").addHandler(seen)
    elif kind == "_log":
        usual_log = logging.Logger._log

        def seen_log(self, level, msg, args, **kwargs):
            seen.messages.append(msg % args)
            usual_log(self, level, msg, args, **kwargs)

        monkeypatch.setattr(logging.Logger, "_log", seen_log)
    elif kind == "subclass":

        class Own(logging.Logger):
            def handle(self, record):
                seen.emit(record)

        log = Own("a.b")
        log.parent = root
    else:
        usual_method = getattr(logging.Logger, kind)

        def replaced(self, *args):
            result = usual_method(self, *args)
            seen.emit(result or args[0])
            return result

        monkeypatch.setattr(logging.Logger, kind, replaced)
    return log


@pytest.mark.parametrize(
    "kind",
    [
        "handler",
        "handler of a parent",
        "handler of a parent that comes later",
        "handler of the root",
        "filter",
        "filter of the handler",
        "record factory",
        "subclass",
        "makeRecord",
        "handle",
        "callHandlers",
        "_log",
    ],
)
def test_whoever_else_listens_gets_a_record(start, monkeypatch, kind):
    start()
    seen = Seen()
    log = watch_with(kind, seen, monkeypatch)
    log.warning("to %s", "all")
    assert seen.messages == ["to all"]


def test_formatter_of_the_handler_is_asked(start, monkeypatch):
    written = start()
    monkeypatch.setattr(logging.getLogger().handlers[0], "formatter", logging.Formatter("mine: %(message)s"))
    logging.getLogger("a").warning("m")
    assert written() == "mine: m\n"


def test_levels_and_propagation_decide_as_always(start, monkeypatch):
    written = start()
    log = logging.getLogger("a.b")
    log.debug("below the level")
    monkeypatch.setattr(logging.getLogger().handlers[0], "level", logging.ERROR)
    log.warning("below the level of the handler")
    log.error("written")
    monkeypatch.setattr(log, "disabled", True)
    log.error("disabled")
    assert written().partition(" ")[2] == "ERROR a.b: written\n"


@pytest.mark.parametrize("name", ["debug", "info", "warning", "error", "critical"])
def test_each_method_says_its_level_once_it_is_enabled(start, no_records, name):
    written = start()
    no_records()
    log = logging.getLogger(f"levels.{name}")
    getattr(log, name)("default")
    log.setLevel(logging.CRITICAL + 1)
    getattr(log, name)("above")
    log.setLevel(logging.DEBUG)
    for _ in range(2):
        getattr(log, name)("%s", "own")
    logging.disable(logging.CRITICAL)
    try:
        getattr(log, name)("nothing is enabled")
    finally:
        logging.disable(logging.NOTSET)
    lines = [line.partition(" ")[2] for line in written().splitlines()]
    expected = [f"{name.upper()} levels.{name}: {text}" for text in ("default", "own", "own")]
    assert lines == expected[name == "debug" :]


def test_a_replaced_is_enabled_for_decides(start, monkeypatch):
    written = start()
    monkeypatch.setattr(logging.Logger, "isEnabledFor", lambda self, level: level == logging.DEBUG)
    logging.getLogger("a").debug("yes")
    logging.getLogger("a").error("no")
    assert written().partition(" ")[2] == "DEBUG a: yes\n"


def test_a_subclass_may_take_arguments_of_its_own(start):
    class Own(logging.Logger):
        def _log(self, level, msg, args, tenant=None, **kwargs):
            super()._log(level, f"{tenant}: {msg}", args, **kwargs)

    written = start()
    log = Own("own")
    log.parent = logging.getLogger()
    log.info("%d", 1, tenant="t")
    assert written().partition(" ")[2] == "INFO own: t: 1\n"
    with pytest.raises(TypeError):
        logging.getLogger("a").info("m", tenant="t")


def test_renamed_levels_have_their_new_name(start, monkeypatch):
    written = start()
    monkeypatch.setitem(logging._levelToName, logging.WARNING, "WARN")
    logging.getLogger("a").warning("m")
    assert written().partition(" ")[2] == "WARN a: m\n"


def test_methods_look_as_before_and_come_back(tmp_path, monkeypatch):
    before = logging.Logger.info
    with LogWriter(os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT, 0o600)) as writer:
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        restore = configure(writer, writer)
        assert logging.Logger.info is not before
        assert (logging.Logger.info.__name__, logging.Logger.info.__doc__) == ("info", before.__doc__)
        restore()
    assert logging.Logger.info is before


def test_loggers_without_number_are_not_all_kept(start, no_records):
    written = start()
    no_records()
    loggers = [logging.Logger(f"l{i}") for i in range(2500)]
    for log in loggers:
        log.parent = logging.getLogger()
        log.warning("m")
    assert len(written().splitlines()) == 2500


def test_exception_and_extra_take_the_usual_way(start):
    written = start()
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("a").exception("failed")
    logging.getLogger("a").warning("more", extra={"tenant": 1})
    failed, traceback, *_, last, more = written().splitlines()
    assert failed.endswith("ERROR a: failed")
    assert traceback == "  Traceback (most recent call last):"
    assert last == "  ValueError: bad"
    assert more.endswith("WARNING a: more")


@pytest.mark.parametrize(
    ("created", "stamp"),
    [
        (0.0, "1970-01-01T00:00:00.000Z "),
        (1795549237.9999, "2026-11-24T19:40:37.999Z "),
        (-1.0, "1970-01-01T00:00:00.000Z "),
        (float("nan"), "1970-01-01T00:00:00.000Z "),
        (1e300, "1970-01-01T00:00:00.000Z "),
    ],
)
def test_time_is_in_utc_and_never_out_of_range(start, created, stamp):
    written = start()
    write_record(written.writer, created, "INFO", "a", "m")
    assert written() == f"{stamp}INFO a: m\n"
