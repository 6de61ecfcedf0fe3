"""The command line: errors of use, clean stops, curl as client."""

import shutil
import signal
import socket
import subprocess
import sys

import pytest

PINGORA = [sys.executable, "-m", "pingora"]
CURL = ["curl", "-sS", "--retry", "20", "--retry-delay", "0", "--retry-all-errors", "--retry-max-time", "15"]


def run(*arguments):
    return subprocess.run([*PINGORA, *arguments], capture_output=True, text=True, timeout=20)


def test_version_is_printed():
    assert run("version").stdout.startswith("pingora 0.")


def test_a_port_that_is_taken_is_one_line_and_code_2():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        ended = run("run", "--from", address, "--to", "http://127.0.0.1:1")
    assert ended.returncode == 2
    assert ended.stderr == f"pingora: cannot listen on '{address}': Address already in use\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "say what to serve"),
        (["run", "nothing.py"], "no such file: nothing.py"),
        (["run", "--from", "nonsense", "--to", "http://127.0.0.1:1"], "cannot listen on 'nonsense'"),
        (["run", "--from", ":0", "--to", "ftp://127.0.0.1"], "expected http://host:port"),
    ],
)
def test_errors_of_use_are_one_line_and_code_2(arguments, message):
    ended = run(*arguments)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_an_exception_in_the_file_names_its_place(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("import pingora\n\n1 / 0\n")
    ended = run("run", str(file))
    assert ended.returncode == 2
    assert ended.stderr == f"pingora: {file}:3: ZeroDivisionError: division by zero\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_curl_is_served_and_sigterm_ends_it_cleanly(origin_factory, tmp_path, workers):
    origin = origin_factory(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n")
    path = tmp_path / "proxy.sock"
    command = [*PINGORA, "run", "--from", f"unix:{path}", "--to", f"http://{origin.address}", "--workers", workers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as proxy:
        answer = subprocess.run(
            [*CURL, "--unix-socket", str(path), "http://localhost/a?b=c"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        proxy.send_signal(signal.SIGTERM)
        output, errors = proxy.communicate(timeout=20)
    assert answer.stdout == "hello\n", answer.stderr
    assert proxy.returncode == 0, errors
    assert '"GET /a?b=c HTTP/1.1" 200 6' in output
