"""The log writer: nobody who logs ever waits, and every lost line is counted."""

import contextlib
import fcntl
import os
import threading

import pytest

from pingora_c.log.writer import LogWriter


@pytest.fixture
def pipe():
    """The two ends of a pipe as unbuffered files."""
    reader, end = os.pipe()
    with open(reader, "rb", 0) as reader_file, open(end, "wb", 0) as end_file:
        yield reader_file, end_file


LINE = b"x" * 99 + b"\n"


def stall(writer, end):
    """Fill the pipe, then the ring, with lines that nobody reads. Return how many lines the pipe holds."""
    n_lines = 0
    fcntl.fcntl(end.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(end.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        while os.write(end.fileno(), LINE):
            n_lines += 1
    os.set_blocking(end.fileno(), True)
    while writer.write(LINE):
        pass
    return n_lines


def test_lines_arrive_in_order(pipe):
    reader, end = pipe
    with LogWriter(end.fileno()) as writer:
        end.close()
        for number in range(500):
            assert writer.write(f"line {number}\n")
    assert reader.readall() == b"".join(b"line %d\n" % number for number in range(500))
    assert (writer.lines, writer.dropped, writer.errors) == (500, 0, 0)


def test_bytes_and_text_are_taken_and_lone_surrogates_do_not_raise(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as file, LogWriter(file.fileno()) as writer:
        writer.write(b"\xff\n")
        writer.write("é\n")
        writer.write("\udc80\n")
    assert path.read_bytes() == b"\xff\n\xc3\xa9\n\\udc80\n"
    assert writer.bytes == len(path.read_bytes())


def test_other_types_are_refused(tmp_path):
    with (tmp_path / "log").open("wb") as file, LogWriter(file.fileno()) as writer, pytest.raises(TypeError):
        writer.write(7)


def test_ring_wraps_without_loss(tmp_path):
    path = tmp_path / "log"
    lines = [b"%d %s\n" % (number, b"y" * (number % 97)) for number in range(3000)]
    with path.open("wb") as file, LogWriter(file.fileno(), 4096) as writer:
        for line in lines:
            while not writer.write(line):
                assert writer.flush(10)
    assert path.read_bytes() == b"".join(lines)


def test_line_longer_than_the_ring_is_dropped(tmp_path):
    with (tmp_path / "log").open("wb") as file, LogWriter(file.fileno(), 4096) as writer:
        assert not writer.write(b"z" * 4097)
        assert writer.write(b"z" * 4096)
    assert (writer.lines, writer.dropped) == (1, 1)


def test_each_line_of_one_write_is_counted(tmp_path):
    with (tmp_path / "log").open("wb") as file, LogWriter(file.fileno(), 4096) as writer:
        assert writer.write(b"a\n\nb\n")
        assert writer.write(b"c\nunfinished")
        assert not writer.write(b"z\n" * 2049)
        assert (writer.lines, writer.dropped) == (5, 2049)


def test_stalled_reader_never_blocks_the_producer_and_drops_are_counted(pipe):
    reader, end = pipe
    writer = LogWriter(end.fileno(), 4096)
    in_pipe = stall(writer, end)
    end.close()
    assert not any(writer.write(LINE) for _ in range(2000))
    assert (writer.lines, writer.dropped) == (4096 // 100, 2001)
    assert not writer.flush(0)
    assert not writer.close(0)
    assert reader.readall() == LINE * (in_pipe + writer.lines)


def test_writing_goes_on_when_a_stalled_reader_returns(pipe):
    reader, end = pipe
    writer = LogWriter(end.fileno(), 4096)
    in_pipe = stall(writer, end)
    lines = writer.lines
    end.close()
    received = threading.Thread(target=lambda: results.append(reader.readall()))
    results = []
    received.start()
    assert writer.flush(10)
    assert writer.write(b"again\n")
    assert writer.close(10)
    received.join()
    assert results[0] == LINE * (in_pipe + lines) + b"again\n"


def test_reader_that_is_gone_drops_and_counts(pipe):
    reader, end = pipe
    reader.close()
    with LogWriter(end.fileno()) as writer:
        for _ in range(10):
            assert writer.write(b"lost\n")
        assert writer.flush(10)
        assert writer.dropped == 10
        assert writer.errors >= 1
        assert writer.write(b"lost too\n")
    assert (writer.dropped, writer.bytes) == (11, 0)


def test_full_disk_is_counted_and_reported_to_nobody():
    full = os.open("/dev/full", os.O_WRONLY)
    with LogWriter(full) as writer:
        os.close(full)
        assert writer.write(b"a\nb\n")
        assert writer.flush(10)
    assert (writer.dropped, writer.errors) == (2, 1)


def test_nonblocking_descriptor_behaves_as_a_blocking_one(pipe):
    reader, end = pipe
    os.set_blocking(end.fileno(), False)
    fcntl.fcntl(end.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    writer = LogWriter(end.fileno(), 65536)
    end.close()
    for number in range(1000):
        assert writer.write(b"%049d\n" % number)
    assert not writer.close(0)
    assert reader.readall() == b"".join(b"%049d\n" % number for number in range(1000))
    assert writer.errors == 0


def test_reopen_sends_later_lines_to_the_new_file(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    with old.open("wb") as file, LogWriter(file.fileno()) as writer:
        writer.write("first\n")
        assert writer.flush(10)
        with new.open("wb") as other:
            writer.reopen(other.fileno())
        writer.write("second\n")
        assert writer.flush(10)
    assert (old.read_text(), new.read_text()) == ("first\n", "second\n")


def test_reopen_names_what_is_wrong(tmp_path):
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        writer.reopen(1_000_000)
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.reopen(1)


def test_closed_writer_drops_and_may_be_closed_again(tmp_path):
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno())
    assert writer.close()
    assert writer.close()
    assert not writer.write(b"late\n")
    assert writer.dropped == 1
    assert writer.flush()


def test_bad_descriptor_raises_at_once():
    with pytest.raises(OSError, match="Bad file descriptor"):
        LogWriter(1_000_000)


def test_threads_do_not_mix_their_lines(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as file, LogWriter(file.fileno()) as writer:

        def produce(name):
            for number in range(1000):
                assert writer.write(f"{name} {number}\n")

        threads = [threading.Thread(target=produce, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = path.read_text().splitlines()
    for name in "abcd":
        assert [line for line in lines if line.startswith(name)] == [f"{name} {number}" for number in range(1000)]


def in_child(body):
    """Run `body` in a forked child and return its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_forked_child_starts_afresh_and_repeats_none_of_the_parents_lines(pipe):
    reader, end = pipe
    writer = LogWriter(end.fileno())
    end.close()

    def child():
        assert (writer.lines, writer.dropped) == (0, 0)
        assert writer.write(b"child\n")
        assert writer.close(10)

    assert writer.write(b"parent\n")
    assert in_child(child) == 0
    assert writer.close(10)
    assert sorted(reader.readall().splitlines()) == [b"child", b"parent"]


def test_child_forked_while_the_thread_writes_and_the_ring_is_full_can_log(pipe, tmp_path):
    reader, end = pipe
    writer = LogWriter(end.fileno(), 4096)
    stall(writer, end)
    end.close()
    path = tmp_path / "child"

    def child():
        with path.open("wb") as file:
            writer.reopen(file.fileno())
        assert writer.write(b"from the child\n")
        assert writer.flush(10)

    assert in_child(child) == 0
    assert path.read_bytes() == b"from the child\n"
    assert not writer.close(0)
    reader.close()
    assert writer.close(10)
