"""read_config: what a file says, and everything that is wrong with it, each with its place."""

import dataclasses
import random
import re

import pytest

from pingora import Limits, RetryPolicy
from pingora.config.model import Config
from pingora.config.reader import keys_of, read_config
from pingora.supervisor.processors import auto_workers
from pingora.usage import ConfigError

SERVED = 'listeners = [":8080"]\nupstreams.endpoints = ["127.0.0.1:9001"]\n'
WHOLE = """\
listeners = ["127.0.0.1:8080", {address = "unix:/run/x.sock"}]
workers = 4
grace = "10s"
trusted = ["10.0.0.0/8", "::1"]
forwarded = "both"
defer_accept = false

[upstreams]
endpoints = ["10.0.0.1:80", {address = "app:80", weight = 3}]
selection = "ketama"
key = "header:X-User"

[hook]
class = "pkg.gateway:Gateway"
options = {key = "secret", list = [1, 2]}

[limits]
head_timeout = "500ms"
keep_alive = 20
body_timeout = "1m30s"
head_bytes = "16KiB"
fields = 64
hook_timeout = "none"
blocked_after = "none"

[retry]
attempts = 5
try_timeout = "2s"
total_timeout = "none"
statuses = [502, 503]
lost = true
replay_bytes = "1MiB"

[logs]
access = "json"
level = "warning"
"""


def problems_of(text):
    """Give the messages of a file that cannot be used."""
    with pytest.raises(ConfigError) as caught:
        read_config("p.toml", text)
    return caught.value.problems


def test_a_whole_file_is_read():
    config = read_config("p.toml", WHOLE)
    assert [listener.address for listener in config.listeners] == ["127.0.0.1:8080", "unix:/run/x.sock"]
    assert [(endpoint.address, endpoint.weight) for endpoint in config.upstreams.endpoints] == [
        ("10.0.0.1:80", 1),
        ("app:80", 3),
    ]
    assert (config.upstreams.selection, config.upstreams.key) == ("ketama", "header:X-User")
    assert (config.hook.cls, config.hook.options) == ("pkg.gateway:Gateway", {"key": "secret", "list": [1, 2]})
    assert config.limits == Limits(
        head_timeout=0.5,
        keep_alive=20,
        body_timeout=90,
        head_bytes=16384,
        fields=64,
        hook_timeout=0,
        blocked_after=None,
    )
    assert config.retry == RetryPolicy(attempts=5, try_timeout=2, statuses=(502, 503), lost=True, replay_bytes=1048576)
    assert (config.workers, config.grace, config.forwarded) == (4, 10.0, "both")
    assert config.trusted == ["10.0.0.0/8", "::1"]
    assert config.defer_accept is False
    assert (config.logs.access, config.logs.level) == ("json", "warning")


def test_the_smallest_file_gets_the_defaults():
    config = read_config("p.toml", SERVED)
    assert (config.limits, config.retry, config.hook) == (Limits(), None, None)
    assert (config.workers, config.grace, config.logs.access) == (1, 5.0, "combined")


def test_a_window_is_a_size():
    config = read_config("p.toml", f'{SERVED}upstreams.peer.h2_window = "256KiB"\n')
    assert config.upstreams.peer.h2_window == 262_144


def test_what_goes_together_is_taken():
    assert read_config("p.toml", f'health = "127.0.0.1:0"\nmetrics = "127.0.0.1:0"\n{SERVED}').metrics == "127.0.0.1:0"
    tcp = f'protocol = "tcp"\n{SERVED}[retry]\nattempts = 2\ntotal_timeout = 3\n'
    assert read_config("p.toml", tcp).retry == RetryPolicy(attempts=2, total_timeout=3)
    lines = "upstreams.passive.back_off = 4000\nupstreams.tls.verify = false\n"  # longest_back_off follows
    assert read_config("p.toml", SERVED + lines).upstreams.passive.back_off == 4000


def test_auto_is_the_number_of_processors():
    assert read_config("p.toml", f'workers = "auto"\n{SERVED}').workers == auto_workers()


def test_every_field_of_limits_and_retry_is_a_key():
    keys = {path for path, _ in keys_of()}
    for table, kind in (("limits", Limits), ("retry", RetryPolicy)):
        assert {(table, field.name) for field in dataclasses.fields(kind)} <= keys


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # unknown keys
        ("[limits]\nhead_timout = 3", '4:1: limits.head_timout: unknown key, did you mean "head_timeout"?'),
        ("[limits]\nhead-timeout = 3", '4:1: limits.head-timeout: unknown key, did you mean "head_timeout"?'),
        ("[limit]\nfields = 3", '3:2: limit: unknown key, did you mean "limits"?'),
        ("[logs]\nworkers = 2", "4:1: logs.workers: unknown key, it belongs at the top, before the first table"),
        ("fields = 2", "3:1: fields: unknown key, it belongs in [limits]"),
        ("xyzzy = 2", "3:1: xyzzy: unknown key"),
        ('"od\\td\\u001b[31m" = 2', '3:1: "od d\N{REPLACEMENT CHARACTER}[31m": unknown key'),
        # types and ranges
        ("workers = true", '3:11: workers: expected "auto" or a whole number from 0 to 256, got true'),
        ("workers = 257", '3:11: workers: expected "auto" or a whole number from 0 to 256, got 257'),
        ("max_requests = -1", "3:16: max_requests: expected a whole number, 0 for no limit, got -1"),
        ("max_requests = true", "3:16: max_requests: expected a whole number, 0 for no limit, got true"),
        (
            "max_memory = 1.5",
            '3:14: max_memory: expected bytes, or a text such as "64KiB" or "1MiB", 0 for no limit, got 1.5',
        ),
        ('max_memory = "1GB"', '3:14: max_memory: expected bytes, or a text such as "64KiB" or "1MiB", got "1GB"'),
        (
            "max_memory = 512",
            '3:14: max_memory: expected 0 for no limit, or at least "64MiB"; a number counts bytes: write "512MiB", '
            "got 512",
        ),
        ("descriptors = 63", "3:15: descriptors: expected a whole number from 64 to 1073741824, got 63"),
        ("user = 0", "3:8: user: expected a text that is not empty, got 0"),
        ('pid_file = ""', '3:12: pid_file: expected a text that is not empty, got ""'),
        ('daemon = "yes"', '3:10: daemon: expected true or false, got "yes"'),
        ('name = "a/b"', "3:8: name: expected a name of up to 64 letters, digits, '_', '-', '.' and '@', got \"a/b\""),
        (
            'health = "8081"',
            "3:10: health: expected 'host:port', '[ipv6]:port' or 'unix:/path'; write :8081, got \"8081\"",
        ),
        (
            'health = "localhost:8081"',
            "3:10: health: expected an IPv4 address or an IPv6 address in brackets, not 'localhost'; write 127.0.0.1, "
            'got "localhost:8081"',
        ),
        ('health = ":08080"', "3:10: health: the same address as listeners[0]"),
        (
            'health = "127.0.0.1:81"\nmetrics = "127.0.0.1:081"',
            "4:11: metrics: the same address as health; give it another port",
        ),
        ('metrics = ":8080"', "3:11: metrics: the same address as listeners[0]"),
        ("[logs]\naccess_file = 1", "4:15: logs.access_file: expected a text that is not empty, got 1"),
        ("pidfile = 1", '3:1: pidfile: unknown key, did you mean "pid_file"?'),
        ("grace = -1", '3:9: grace: expected 0 to 86400 seconds, or a text such as "30s", "500ms" or "1m30s", got -1'),
        (
            'grace = "5"',
            '3:9: grace: expected seconds, or a text such as "30s", "500ms" or "1m30s", got "5"',
        ),
        ("trusted = 1", "3:11: trusted: expected an array, got 1"),
        (
            'trusted = ["10.0.0.1/8"]',
            '3:12: trusted[0]: expected a network such as "10.0.0.0/8" or "::1": 10.0.0.1/8 has host bits set, '
            'got "10.0.0.1/8"',
        ),
        ('forwarded = "x"', '3:13: forwarded: expected "x-forwarded", "forwarded", "both" or "off", got "x"'),
        ("defer_accept = 0", "3:16: defer_accept: expected true or false, got 0"),
        ("abort_on_half_close = 1", "3:23: abort_on_half_close: expected true or false, got 1"),
        (
            'via = "a b"',
            '3:7: via: expected a name such as "edge", or "edge:8080", of at most 100 characters, got "a b"',
        ),
        (
            'reason_header = "Content-Length"',
            '3:17: reason_header: expected a header field that the proxy does not write itself, such as "X-Reason", '
            'got "Content-Length"',
        ),
        ("limits = 3", "3:10: limits: expected a table, got 3"),
        ("logs = []", "3:8: logs: expected a table, got an array"),
        ("[limits]\nfields = 1.5", "4:10: limits.fields: expected a whole number, got 1.5"),
        ("[limits]\nfields = 0", "4:10: limits.fields: expected 1 to 256 fields, got 0"),
        (
            "[limits]\nkeep_alive = true",
            '4:14: limits.keep_alive: expected seconds, or a text such as "30s", "500ms" or "1m30s", got true',
        ),
        ('[limits]\nkeep_alive = "2d"', '4:14: limits.keep_alive: expected 0.001 to 86400 seconds, got "2d"'),
        ("[limits]\nkeep_alive = nan", "4:14: limits.keep_alive: expected 0.001 to 86400 seconds, got nan"),
        (
            "[limits]\nblocked_after = 0",
            '4:17: limits.blocked_after: expected 0.01 to 86400 seconds, or "none", got 0',
        ),
        (
            '[limits]\nhead_bytes = "0.3B"',
            '4:14: limits.head_bytes: expected bytes, or a text such as "64KiB" or "1MiB", got "0.3B"',
        ),
        (
            f"[limits]\nhead_bytes = 0x{'f' * 400}",
            "4:14: limits.head_bytes: expected 256 to 65536 bytes, got a huge number",
        ),
        ("[retry]\nattempts = 0", "4:12: retry.attempts: expected 1 to 100, got 0"),
        ('[retry]\nlost = "yes"', '4:8: retry.lost: expected true or false, got "yes"'),
        (
            "[retry]\nstatuses = [200]",
            "4:12: retry.statuses: expected at most 16 from 400 to 599, not 200, got an array",
        ),
        (
            '[retry]\nstatuses = ["502"]',
            '4:12: retry.statuses: expected an array of whole numbers, not "502", got an array',
        ),
        (
            "[retry]\ntry_timeout = 1e9",
            '4:15: retry.try_timeout: expected 0.001 to 86400 seconds, or "none", got 1000000000.0',
        ),
        ("[retry]\nreplay_bytes = -1", "4:16: retry.replay_bytes: expected 0 to 1 GiB, got -1"),
        (
            "[retry]\ntry_timeout = 3\ntotal_timeout = 2",
            "4:15: retry.try_timeout: longer than total_timeout; give a try less than all of them",
        ),
        (
            "upstreams.passive = {back_off = 5, longest_back_off = 2}",
            "3:55: upstreams.passive.longest_back_off: shorter than back_off; raise one of them",
        ),
        (
            'upstreams.tls = {verify = false, ca = "ca.pem"}',
            "3:34: upstreams.tls.ca: verify = false uses none; leave one of them out",
        ),
        ('protocol = "tcp"\n[retry]\nlost = true', '5:1: retry.lost: only protocol = "http" uses it'),
        ('protocol = "tcp"\n[error_pages]\n502 = "a"', '4:2: error_pages: only protocol = "http" uses it'),
        ('protocol = "tcp"\nreason_header = "X-R"', '4:1: reason_header: only protocol = "http" uses it'),
        (
            'hook = "gateway.py:Gateway"',
            '3:8: hook: expected the module without .py: write "gateway:Gateway", got "gateway.py:Gateway"',
        ),
        (
            'hook = "gateway"',
            '3:8: hook: expected "module:Class", such as "gateway:Gateway" for the class Gateway in gateway.py, '
            'got "gateway"',
        ),
        ("[hook]\noptions = {}", "3:2: hook.class: missing"),
        ('[hook]\nclass = "a:B"\noptions = 1', "5:11: hook.options: expected a table, got 1"),
        # upstreams, which SERVED has already
        (
            'upstreams.peer.h2_window = "10KB"',
            '3:28: upstreams.peer.h2_window: expected bytes, or a text such as "64KiB" or "1MiB", got "10KB"',
        ),
        (
            'upstreams.peer.h2_window = "1KiB"',
            '3:28: upstreams.peer.h2_window: expected 65535 to 16777216 bytes, got "1KiB"',
        ),
        (
            'upstreams.peer.protocol = "h3"',
            '3:27: upstreams.peer.protocol: expected "h1", "h2" or "h2h1", got "h3"',
        ),
        (
            "upstreams.peer.protocol = 2",
            '3:27: upstreams.peer.protocol: expected "h1", "h2" or "h2h1", got 2',
        ),
        (
            'upstreams.peer.proxy_protocol = "2"',
            '3:33: upstreams.peer.proxy_protocol: expected "v1" or "v2", got "2"',
        ),
        ("[[upstreams.more]]", "3:13: upstreams.more: unknown key"),
    ],
    ids=lambda value: value.partition(": ")[2] if ": " in value else None,
)
def test_a_fault_is_told_with_its_place(text, message):
    assert problems_of(SERVED + text) == [f"p.toml:{message}"]


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "",
            [
                "1:1: listeners: missing",
                "1:1: upstreams: missing: without a hook there is nothing else that says where to send",
            ],
        ),
        (
            "listeners = []\nupstreams = {endpoints = []}",
            [
                "1:13: listeners: expected at least one address",
                "2:26: upstreams.endpoints: expected at least one address",
            ],
        ),
        (
            'hook = "a:B"\nlisteners = [":80", "[::]:81", ":80", 80, "1.1.1.1", "a:1"]',
            [
                '2:39: listeners[3]: expected an address such as ":8080", "127.0.0.1:8080" or '
                '"unix:/run/pingora.sock", got 80',
                "2:43: listeners[4]: expected 'host:port', '[ipv6]:port' or 'unix:/path', got \"1.1.1.1\"",
                "2:54: listeners[5]: expected an IPv4 address or an IPv6 address in brackets, not 'a', got \"a:1\"",
            ],
        ),
        (
            'hook = "a:B"\nlisteners = [":80", "127.0.0.1:81", "127.0.0.1:081", {address = ":80"}]',
            [
                "2:37: listeners[2]: the same address as listeners[1]",
                "2:54: listeners[3]: the same address as listeners[0]",
            ],
        ),
        (
            'listeners = [":80"]\n[upstreams]\n'
            'endpoints = ["a:0", {address = "1.2.3:4", weight = 0}, {weight = 1}, 3]\n'
            'selection = "fastest"\nkey = "cookie"',
            [
                '3:14: upstreams.endpoints[0]: port 0 is outside 1\N{EN DASH}65535, got "a:0"',
                "3:32: upstreams.endpoints[1].address: expected an IPv4 address or an IPv6 address in brackets, "
                "not '1.2.3', got \"1.2.3:4\"",
                "3:52: upstreams.endpoints[1].weight: expected a whole number from 1 to 65535, got 0",
                "3:56: upstreams.endpoints[2].address: missing",
                '3:70: upstreams.endpoints[3]: expected an address such as "10.0.0.1:8080", "https://app.internal" or '
                '"unix:/run/app.sock", got 3',
                '4:13: upstreams.selection: expected "round_robin", "random", "least_connections", "ketama" or '
                '"fnv_hash", got "fastest"',
                '5:7: upstreams.key: expected "client_ip", "uri", "host" or "header:NAME", got "cookie"',
            ],
        ),
        (
            'listeners = [":80"]\nupstreams.endpoints = ["http://a:1/b", "a:1/b", "http://a/", "unix:/a/b"]',
            [
                '2:24: upstreams.endpoints[0]: expected no path behind host:port, got "http://a:1/b"',
                '2:40: upstreams.endpoints[1]: expected no path behind host:port, got "a:1/b"',
            ],
        ),
        (
            'listeners = [":80"]\nupstreams = {endpoints = ["a:1"], selection = "ketama"}',
            ['2:47: upstreams.selection: ketama needs a key, such as key = "client_ip"'],
        ),
        (
            'listeners = [":80"]\nupstreams = {endpoints = ["a:1"], key = "uri"}',
            ['2:35: upstreams.key: only selection = "ketama" and "fnv_hash" use a key'],
        ),
        (
            'listeners = [":80"]\n[upstreams]\nendpoints = ["a:1"]\nresolve_interval = 0\n'
            "peer.read_timeout = -1\npassive.failures = -1\npassive.statuses = [200]\n"
            '[upstreams.health]\nkind = "exec"\npath = "up"\nhost = "a b"\nstatuses = [99]\ninterval = 0\n'
            "consecutive_success = 0",
            [
                "4:20: upstreams.resolve_interval: expected 0.01 to 86400 seconds, or a text such as "
                '"30s", "500ms" or "1m30s", got 0',
                "5:21: upstreams.peer.read_timeout: expected 0.001 to 86400 seconds, got -1",
                "6:20: upstreams.passive.failures: expected 0 to 1000, got -1",
                "7:20: upstreams.passive.statuses: expected at most 16 from 400 to 599, not 200, got an array",
                '9:8: upstreams.health.kind: expected "http" or "tcp", got "exec"',
                '10:8: upstreams.health.path: expected a path such as "/health", got "up"',
                '11:8: upstreams.health.host: expected a host such as "app.internal", got "a b"',
                "12:12: upstreams.health.statuses: expected an array of statuses from 100 to 599, not 99, got an array",
                "13:12: upstreams.health.interval: expected 0.01 to 86400 seconds, or a text such as "
                '"30s", "500ms" or "1m30s", got 0',
                "14:23: upstreams.health.consecutive_success: expected a whole number from 1 to 1000, got 0",
            ],
        ),
        (
            'listeners = [":80"]\n[upstreams]\nendpoints = ["a:1"]\nhealth = { kind = "tcp", path = "/" }',
            ['4:26: upstreams.health.path: only kind = "http" uses it'],
        ),
    ],
    ids=["empty", "none", "addresses", "twice", "upstreams", "paths", "no key", "a key too many", "health", "tcp"],
)
def test_all_faults_are_told_in_the_order_of_the_file(text, messages):
    assert problems_of(text) == [f"p.toml:{message}" for message in messages]


def test_a_byte_order_mark_is_passed_over(tmp_path):
    file = tmp_path / "p.toml"
    file.write_bytes(f"{SERVED}workers = 3\n".encode("utf-8-sig"))
    assert read_config(file).workers == 3


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    for name, content, message in (
        ("missing.toml", None, ": No such file or directory"),
        ("latin.toml", "a = 1\nb = 'caf\xe9'".encode("latin-1"), ":2:9: not UTF-8"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            read_config(path)
        assert caught.value.problems == [f"{path}{message}"]


def test_a_broken_file_is_told_and_never_raises_anything_else():
    chance = random.Random(4)
    pieces = ["[", "]", "{", "}", '"', "'", "=", ".", "\n", ",", "#", "[[", "]]", "1", "-1", "true", "nan", "\0", "é"]
    outcomes = set()
    for _ in range(3000):
        text = WHOLE
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(text))
            end = at + chance.choice([0, 0, 1, 1, 5, 40])
            text = text[:at] + chance.choice([*pieces, WHOLE[at : at + 20]]) + text[end:]
        outcome = outcome_of(text)
        outcomes.add(type(outcome))
        if isinstance(outcome, ConfigError):
            assert all(re.match(r"p\.toml:\d+:\d+: [^\n]+$", problem) for problem in outcome.problems)
    assert outcomes == {Config, ConfigError}


def outcome_of(text):
    try:
        return read_config("p.toml", text)
    except ConfigError as error:
        return error
