"""print() and logging through a LogWriter."""

import json
import logging
import os
import re
import subprocess
import sys
import threading

import pytest

from pingora.observe.logs import LOOKS_PER_REPORT, LogHandler, Losses, PlainRecord, StreamToWriter, configure
from pingora_c.log.writer import LogWriter

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")


class Output:
    """A LogWriter on a file, and the text that reached the file."""

    def __init__(self, path):
        self.path = path
        self.writer = LogWriter(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))

    @property
    def text(self):
        assert self.writer.flush(10)
        return self.path.read_text()


@pytest.fixture
def output(tmp_path):
    output = Output(tmp_path / "output")
    yield output
    output.writer.close()


@pytest.fixture
def logger(output):
    """A logger of its own that writes to `output`."""
    logger = logging.Logger("gateway")
    logger.addHandler(LogHandler(output.writer))
    return logger


def record_at(created, message="m"):
    record = logging.LogRecord("gateway", logging.INFO, "", 0, message, None, None)
    record.created = created
    return record


def test_record_is_one_line_with_time_level_and_name(output):
    handler = LogHandler(output.writer)
    handler.handle(record_at(1795549237.1235))
    handler.handle(record_at(1795549237.9999))
    handler.handle(record_at(1795549238.0))
    assert output.text == (
        "2026-11-24T19:40:37.123Z INFO gateway: m\n"
        "2026-11-24T19:40:37.999Z INFO gateway: m\n"
        "2026-11-24T19:40:38.000Z INFO gateway: m\n"
    )


@pytest.mark.parametrize(
    ("message", "arguments", "expected"),
    [
        pytest.param("plain 100%", (), "plain 100%", id="no arguments"),
        pytest.param("%s %d", ("a", 1), "a 1", id="arguments"),
        pytest.param("%(a)s", ({"a": 1},), "1", id="a mapping"),
        pytest.param(ValueError("x"), (), "x", id="not a string"),
        pytest.param("%d", ("a",), "'%d' (arguments ('a',) do not fit: ", id="wrong argument"),
        pytest.param("é", (), "é", id="not ascii"),
        pytest.param("a\nb", (), "a\n  b", id="two lines"),
        pytest.param("a\r\x1b[31m\x00\x85\u2028", (), "a\\x0d\\x1b[31m\\x00\\x85\\u2028", id="controls"),
    ],
)
def test_message_is_written(logger, output, message, arguments, expected):
    logger.warning(message, *arguments)
    assert f"Z WARNING gateway: {expected}" in output.text


def test_text_of_a_client_cannot_pass_for_a_record(logger, output):
    logger.info("user %s", "x\n2026-11-24T19:40:37.123Z INFO gateway: all is well")
    try:
        raise ValueError("y\n2026-11-24T19:40:37.123Z INFO gateway: all is well")
    except ValueError:
        logger.exception("failed")
    assert [bool(STAMP.match(line)) for line in output.text.splitlines() if not line.startswith("  ")] == [True, True]


def test_traceback_follows_its_record(logger, output):
    try:
        raise KeyError("missing")
    except KeyError:
        logger.exception("hook failed")
    first, second, *_, last = output.text.splitlines()
    assert first.endswith("Z ERROR gateway: hook failed")
    assert second == "  Traceback (most recent call last):"
    assert last == "  KeyError: 'missing'"


def test_stack_of_the_caller_follows_if_asked_for(logger, output):
    logger.info("here", stack_info=True)
    assert "\n  Stack (most recent call last):\n" in output.text


def test_level_filters_and_formatter_work_as_in_any_handler(output):
    logger = logging.Logger("gateway")
    handler = LogHandler(output.writer, logging.WARNING)
    handler.setFormatter(logging.Formatter("%(levelname)s|%(message)s"))
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    logger.addHandler(handler)
    logger.info("low")
    logger.error("secret")
    logger.error("high")
    assert output.text == "ERROR|high\n"


def test_print_arrives_as_whole_lines(output):
    stream = StreamToWriter(output.writer)
    print("a", 1, file=stream)
    print("b", end="", file=stream)
    assert output.text == "a 1\n"
    print("c\nd", file=stream)
    assert output.text == "a 1\nbc\nd\n"


def test_flush_sends_the_unfinished_line(output):
    stream = StreamToWriter(output.writer)
    stream.write("prompt> ")
    assert output.text == ""
    stream.flush()
    assert output.text == "prompt> "


def test_threads_do_not_mix_unfinished_lines(output):
    stream = StreamToWriter(output.writer)
    stream.write("mine ")
    other = threading.Thread(target=print, args=("theirs",), kwargs={"file": stream})
    other.start()
    other.join()
    stream.write("too\n")
    assert output.text == "theirs\nmine too\n"


def test_unfinished_line_is_bounded(output):
    stream = StreamToWriter(output.writer)
    stream.write("x" * 100_000)
    assert output.text == "x" * 100_000


def test_text_larger_than_the_ring_goes_line_by_line(tmp_path):
    path = tmp_path / "output"
    with path.open("wb") as file, LogWriter(file.fileno(), 1 << 18) as writer:
        text = "".join(f"{number:099d}\n" for number in range(2000))
        StreamToWriter(writer).write(text)
    assert path.read_text() == text


def test_stream_answers_what_libraries_ask_of_stdout(output):
    stream = StreamToWriter(output.writer, 1)
    assert (stream.encoding, stream.errors, stream.fileno(), stream.writable()) == (
        "utf-8",
        "backslashreplace",
        1,
        True,
    )
    assert not StreamToWriter(output.writer).isatty()
    with pytest.raises(OSError, match="fileno"):
        StreamToWriter(output.writer).fileno()
    with pytest.raises(TypeError):
        stream.write(b"bytes")
    stream.buffer.write(b"raw \xff\n")
    stream.close()
    stream.write("after close\n")
    output.writer.flush(10)
    assert output.path.read_bytes() == b"raw \xff\nafter close\n"


PROGRAM = """
import json, logging, os, sys
from pingora_c.log.writer import LogWriter
from pingora.observe.logs import configure

before = sys.stdout, sys.stderr, logging.raiseExceptions
{before}
restore = configure(LogWriter(1), LogWriter(2), "INFO")
print("printed")
print("unfinished", end="")
logging.getLogger("gateway").info("logged")
logging.getLogger("gateway").debug("not logged")
print(json.dumps([logging.raiseExceptions, len(logging.getLogger().handlers)]), file=sys.stderr)
{after}
"""


def run(before="", after=""):
    """Run a fresh interpreter, so that logging's module-wide state is its own."""
    program = PROGRAM.format(before=before, after=after)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)


def test_configure_takes_over_print_and_logging_and_flushes_at_the_end():
    done = run()
    assert done.stdout == "printed\nunfinished"
    logged, switches = done.stderr.splitlines()
    assert re.fullmatch(STAMP.pattern + "INFO gateway: logged", logged)
    assert json.loads(switches) == [False, 1]


def test_configure_leaves_a_configured_root_logger_alone():
    done = run(before="logging.basicConfig(level='INFO', format='mine: %(message)s', stream=sys.stdout)")
    assert done.stdout == "mine: logged\nprinted\nunfinished"
    assert json.loads(done.stderr) == [True, 1]


def test_plain_record_has_every_attribute_of_an_ordinary_one():
    arguments = ("name", logging.INFO, "(unknown file)", 0, "%(a)s", ({"a": 1},), None)
    plain, ordinary = PlainRecord(*arguments), logging.LogRecord(*arguments)
    assert set(vars(ordinary)) <= set(vars(plain))
    assert plain.getMessage() == ordinary.getMessage() == "1"
    assert (plain.levelname, plain.name, plain.levelno) == ("INFO", "name", logging.INFO)
    assert logging.Formatter("%(asctime)s %(filename)s:%(lineno)d %(funcName)s").format(plain)


def test_restore_undoes_configure():
    done = run(
        after="restore(); assert before == (sys.stdout, sys.stderr, logging.raiseExceptions); print(' restored')"
    )
    assert done.stdout == "printed\nunfinished restored\n"


def test_uncaught_exception_is_printed_before_the_end():
    done = run(after="import atexit; sys.excepthook(*[ValueError, ValueError('last words'), None])")
    assert done.stderr.endswith("ValueError: last words\n")


def test_stalled_stdout_does_not_stop_print():
    reader, end = os.pipe()
    writer = LogWriter(end, 4096)
    os.close(end)
    stream = StreamToWriter(writer)
    for _ in range(3000):
        print("x" * 99, file=stream)
    assert writer.dropped > 0
    os.close(reader)
    assert writer.close(10)


def test_configure_in_process_is_undone(output, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    streams = sys.stdout, sys.stderr
    restore = configure(output.writer, output.writer)
    try:
        print("one")
        logging.getLogger("gateway").warning("two")
    finally:
        restore()
    assert (sys.stdout, sys.stderr) == streams
    assert logging.getLogger().handlers == []
    assert re.fullmatch("one\n" + STAMP.pattern + "WARNING gateway: two\n", output.text)


class Drops:
    """Stands for a LogWriter: what it has dropped so far, and whether it drops what it gets now."""

    def __init__(self):
        self.dropped = self.errors = 0
        self.is_full = False

    def write(self, line):
        self.dropped += self.is_full
        return not self.is_full


@pytest.fixture
def losses(caplog):
    """A function that looks, and the lines that it reported."""
    stdout, stderr = Drops(), Drops()
    handler = LogHandler(stderr)
    handler.setFormatter(logging.Formatter())  # so that it asks for nothing but write()
    log = logging.getLogger("pingora.log")
    log.addHandler(handler)
    losses = Losses({"stdout": stdout, "stderr": stderr}, stderr)

    def look(stdout_drops=0, stderr_drops=0, is_last=False):
        stdout.dropped += stdout_drops
        stderr.dropped += stderr_drops
        caplog.clear()
        losses.look(is_last)
        return [message.partition(" were ")[0] for message in caplog.messages]

    look.stderr = stderr
    yield look
    log.removeHandler(handler)


def test_losses_are_reported_once_when_they_are_over(losses):
    assert [losses(), losses(3), losses(4), losses(), losses()] == [[], [], [], ["7 lines for stdout"], []]
    assert [losses(1, 2), losses()] == [[], ["1 lines for stdout", "2 lines for stderr"]]


def test_losses_that_do_not_end_are_reported_now_and_then(losses):
    reports = [losses(1) for _ in range(2 * LOOKS_PER_REPORT)]
    assert [n for n, report in enumerate(reports) if report] == [LOOKS_PER_REPORT - 1, 2 * LOOKS_PER_REPORT - 1]


def test_losses_are_reported_at_the_end(losses):
    assert losses(5, is_last=True) == ["5 lines for stdout"]


def test_report_that_is_lost_is_made_again_and_is_no_loss_itself(losses):
    losses.stderr.is_full = True
    losses(0, 5)
    for _ in range(3):
        assert losses() == ["5 lines for stderr"]
    losses.stderr.is_full = False
    assert [losses(), losses()] == [["5 lines for stderr"], []]
