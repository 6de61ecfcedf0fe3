"""load_config: from a file to a Server, with the user's hook and what can be wrong with it."""

import asyncio
import itertools
import sys
import textwrap

import pytest
from pki import Authority

from pingora import HttpPeer, Ketama, LeastConnections, LoadBalancer, ProxyHttp, RetryPolicy, RoundRobin, TcpHealthCheck
from pingora.config.build import load_config
from pingora.usage import ConfigError

NUMBERS = itertools.count()
GATEWAY = """\
import pingora


class Gateway(pingora.ProxyHttp):
    retry = pingora.RetryPolicy(attempts=7)

    def __init__(self, key="k", *, size=1):
        if key == "bad":
            raise ValueError("a bad key\\nof two lines")
        if key == "exit":
            raise SystemExit(3)
        if key == "run":
            pingora.Server().run()
        self.key = key

    def upstream_peer(self, session, ctx):
        return None


class Needs(pingora.ProxyHttp):
    def __init__(self, key, /, size):
        pass


class Takes(pingora.ProxyHttp):
    def __init__(self, **options):
        self.options = options
        self.upstreams = pingora.LoadBalancer(["127.0.0.1:1"])


class Nothing(pingora.ProxyHttp):
    pass


class Other:
    pass
"""


class Place:
    """A directory with a hook module of a name that no other test has."""

    def __init__(self, path):
        self.path = path
        self.module = f"gateway_{next(NUMBERS):03}"
        self.write(GATEWAY)

    def write(self, source):
        (self.path / f"{self.module}.py").write_text(source)

    def load(self, text):
        file = self.path / "p.toml"
        file.write_text(textwrap.dedent(text).replace("MODULE", self.module))
        return load_config(file)

    def problems(self, text):
        with pytest.raises(ConfigError) as caught:
            self.load(text)
        prefix = f"{self.path / 'p.toml'}:"
        assert all(problem.startswith(prefix) for problem in caught.value.problems)
        return [
            problem.removeprefix(prefix).replace(f"{self.path}/", "").replace(self.module, "MODULE")
            for problem in caught.value.problems
        ]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Place(tmp_path)
    yield made
    for name in [name for name in sys.modules if name.startswith(made.module)]:
        del sys.modules[name]


def test_a_file_without_a_hook_is_a_plain_proxy(place):
    server = place.load('listeners = ["127.0.0.1:0"]\nupstreams.endpoints = ["127.0.0.1:1", "127.0.0.1:2"]')
    (site,) = server.sites
    assert type(site.proxy) is ProxyHttp
    assert [str(endpoint.address) for endpoint in site.proxy.upstreams.endpoints] == ["127.0.0.1:1", "127.0.0.1:2"]
    assert type(site.proxy.upstreams.selection) is RoundRobin
    assert site.proxy.retry == RetryPolicy()
    assert (server.access_log, server.log_level) == ("combined", "info")


def test_a_file_sets_upstreams_retry_and_the_options_of_a_hook(place):
    server = place.load("""
        listeners = ["127.0.0.1:0"]
        [upstreams]
        endpoints = [{address = "127.0.0.1:1", weight = 3}]
        selection = "ketama"
        key = "uri"
        [hook]
        class = "MODULE:Gateway"
        options = {key = "secret"}
        [retry]
        attempts = 2
    """)
    proxy = server.sites[0].proxy
    assert (type(proxy).__name__, proxy.key) == ("Gateway", "secret")
    assert (type(proxy.upstreams.selection), proxy.upstreams.endpoints[0].weight) == (Ketama, 3)
    assert proxy.retry == RetryPolicy(attempts=2)


def test_a_file_says_how_endpoints_are_looked_after(place):
    server = place.load(
        """
        listeners = ["127.0.0.1:0"]
        [upstreams]
        endpoints = ["127.0.0.1:1", { address = "localhost:2", weight = 3 }]
        selection = "least_connections"
        resolve_interval = "1m"
        peer = { connect_timeout = "500ms", idle_timeout = 5 }
        passive = { failures = 2, window = "3s", back_off = "4s", longest_back_off = "5s", statuses = [503] }
        [upstreams.health]
        path = "/up"
        host = "app.test"
        statuses = [200, 204]
        interval = "2s"
        timeout = "250ms"
        consecutive_success = 2
        consecutive_failure = 3
        parallel = 4
        """
    )
    balancer = server.site.upstreams
    assert type(balancer.selection) is LeastConnections
    rules = balancer.failure_rules
    assert (rules.failures, rules.window_us, rules.outage(1), rules.outage(2)) == (2, 3_000_000, 4, 5)
    health = balancer.health
    assert (health.path, health.host, health.statuses) == ("/up", "app.test", {200, 204})
    assert (health.interval, health.timeout, health.parallel) == (2, 0.25, 4)
    assert (health.consecutive_success, health.consecutive_failure) == (2, 3)
    assert balancer.discovery.interval == 60
    found = asyncio.run(balancer.discovery.discover())
    assert [(one.address.text, one.weight) for one in found][:2] == [("127.0.0.1:1", 1), (found[1].address.text, 3)]
    peer = HttpPeer(balancer.endpoints[0])
    assert (peer.connect_timeout_ms, peer.read_timeout_ms, peer.idle_timeout_ms) == (500, 60000, 5000)


def test_tcp_checks_and_passive_health_can_be_asked_for_and_switched_off(place):
    plain = 'listeners = ["127.0.0.1:0"]\n[upstreams]\nendpoints = ["127.0.0.1:1"]\n'
    server = place.load(plain + 'passive.failures = 0\nhealth.kind = "tcp"\n')
    assert server.site.upstreams.failure_rules is None
    assert type(server.site.upstreams.health) is TcpHealthCheck
    server = place.load(plain)
    assert server.site.upstreams.failure_rules.failures == 3
    assert (server.site.upstreams.health, server.site.upstreams.discovery) == (None, None)


def test_what_a_hook_sets_itself_stays_if_the_file_is_silent(place):
    proxy = place.load('listeners = ["127.0.0.1:0"]\nhook = "MODULE:Gateway"').sites[0].proxy
    assert (proxy.upstreams, proxy.retry.attempts) == (None, 7)
    proxy = place.load('listeners = ["127.0.0.1:0"]\n[hook]\nclass = "MODULE:Takes"\noptions.a = 1').sites[0].proxy
    assert isinstance(proxy.upstreams, LoadBalancer)
    assert proxy.options == {"a": 1}


def test_a_hook_in_a_package_is_found(place):
    (place.path / place.module).mkdir()
    (place.path / place.module / "__init__.py").touch()
    (place.path / place.module / "inner.py").write_text(GATEWAY)
    (place.path / f"{place.module}.py").unlink()
    server = place.load('listeners = ["127.0.0.1:0"]\nhook = "MODULE.inner:Gateway"')
    assert type(server.sites[0].proxy).__name__ == "Gateway"


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (
            '"MODULE_x:Gateway"',
            '2:8: hook: there is no module MODULE_x beside this file or on the path, did you mean "MODULE"?',
        ),
        ('"MODULE:Gatway"', '2:8: hook: MODULE.py has no class Gatway, did you mean "Gateway"?'),
        ('"MODULE:Xyz"', "2:8: hook: MODULE.py has no class Xyz; there is Gateway, Needs, Takes, Nothing"),
        ('"MODULE:Other"', "2:8: hook: Other of MODULE.py is no class that extends pingora.ProxyHttp"),
        ('"MODULE:pingora"', "2:8: hook: pingora of MODULE.py is no class that extends pingora.ProxyHttp"),
        (
            '{class = "MODULE:Gateway", options = {kee = 1}}',
            '2:51: hook.options.kee: Gateway takes no such option, did you mean "key"?',
        ),
        ('{class = "MODULE:Needs"}', "2:1: hook.options.size: missing, Needs needs it"),
        (
            '{class = "MODULE:Gateway", options = {key = "bad"}}',
            "2:17: hook.class: Gateway() raised ValueError: a bad key at MODULE.py:9",
        ),
        (
            '{class = "MODULE:Gateway", options = {key = "exit"}}',
            "2:17: hook.class: Gateway() raised SystemExit: the code called sys.exit(3) at MODULE.py:11",
        ),
        (
            '{class = "MODULE:Gateway", options = {key = "run"}}',
            '2:17: hook.class: Gateway() raised server.run() belongs under `if __name__ == "__main__":` in a file '
            "for `pingora run` at MODULE.py:13",
        ),
        (
            '"MODULE:Nothing"',
            "1:1: upstreams: missing: Nothing has no upstreams of its own and does not override upstream_peer",
        ),
    ],
)
def test_what_is_wrong_with_a_hook_is_told(place, hook, message):
    assert place.problems(f'listeners = ["127.0.0.1:0"]\nhook = {hook}') == [message]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import nothing_here",
            "importing MODULE raised ModuleNotFoundError: No module named 'nothing_here' at MODULE.py:1",
        ),
        ("\n1 / 0", "importing MODULE raised ZeroDivisionError: division by zero at MODULE.py:2"),
        ("x = 1\nif:", "importing MODULE raised SyntaxError: invalid syntax at MODULE.py:2"),
        ("raise KeyboardInterrupt", "importing MODULE raised KeyboardInterrupt at MODULE.py:1"),
        ("import sys\nsys.exit()", "importing MODULE raised SystemExit: the code called sys.exit(None) at MODULE.py:2"),
        ("", "MODULE.py has no class Gateway; it has no class that extends pingora.ProxyHttp"),
    ],
)
def test_what_is_wrong_with_its_module_is_told(place, source, message):
    place.write(source)
    assert place.problems('listeners = ["127.0.0.1:0"]\nhook = "MODULE:Gateway"') == [f"2:8: hook: {message}"]


def test_a_module_with_a_name_of_the_standard_library_is_told(place):
    (place.path / "http.py").write_text(GATEWAY)
    (problem,) = place.problems('listeners = ["127.0.0.1:0"]\nhook = "http:Gateway"')
    assert problem == "2:8: hook: http.py cannot be imported: the name http belongs to another module; rename it"


def test_faults_of_the_file_of_the_hook_and_of_names_are_told_at_once(place):
    assert place.problems("""
        listeners = ["127.0.0.1:0"]
        worker = 3
        [upstreams]
        endpoints = ["localhost.invalid:80", {address = "127.1:80"}, "127.0.0.1:1", "127.0.0.1:01"]
        [hook]
        class = "MODULE:Gatway"
    """) == [
        '3:1: worker: unknown key, did you mean "workers"?',
        "5:49: upstreams.endpoints[1].address: expected an IPv4 address or an IPv6 address in brackets, not '127.1', "
        'got "127.1:80"',
        '7:9: hook.class: MODULE.py has no class Gatway, did you mean "Gateway"?',
    ]
    problems = place.problems("""
        listeners = ["127.0.0.1:0"]
        [upstreams]
        endpoints = ["localhost.invalid:80", "127.0.0.1:1", "127.0.0.1:01"]
        [hook]
        class = "MODULE:Gatway"
    """)
    assert problems[0] == "4:13: upstreams.endpoints: 127.0.0.1:1 occurs twice"
    assert problems[1].startswith("4:14: upstreams.endpoints[0]: cannot resolve 'localhost.invalid': ")
    assert problems[2].startswith("6:9: hook.class: MODULE.py has no class Gatway")


def test_error_pages_are_read_beside_the_file(place):
    (place.path / "pages").mkdir()
    (place.path / "pages" / "502.html").write_text("<p>later")
    served = 'listeners = ["127.0.0.1:0"]\nupstreams.endpoints = ["127.0.0.1:1"]\n'
    place.load(f'{served}reason_header = "X-Reason"\n[error_pages]\n502 = "pages/502.html"')
    assert place.problems(f'{served}reason_header = "a b"\n[error_pages]\n200 = "x"\n503 = "no.html"\n504 = 3') == [
        '3:17: reason_header: expected the name of a header field, such as "X-Reason", got "a b"',
        "5:1: error_pages.200: expected a status from 400 to 599",
        "6:7: error_pages.503: no.html: No such file or directory",
        "7:7: error_pages.504: expected the path of a file, got 3",
    ]


def test_what_only_the_server_refuses_is_a_fault_of_the_file(place):
    with pytest.raises(ConfigError, match=r"p\.toml: reason_header: expected the name of a header field"):
        place.load(
            f'listeners = ["127.0.0.1:0"]\nupstreams.endpoints = ["127.0.0.1:1"]\nreason_header = "{"x" * 70000}"'
        )


def test_tls_is_made_of_files_beside_the_configuration(place):
    authority = Authority()
    authority.issue("a.test").write(place.path, "a")
    (place.path / "ca.pem").write_bytes(authority.chain)
    server = place.load("""
        [[listeners]]
        address = "127.0.0.1:0"
        [[listeners]]
        address = "127.0.0.2:0"
        tls.certificates = [{chain = "a.pem", key = "a.key"}]
        [upstreams]
        endpoints = ["http://127.0.0.1:1", "https://localhost:8443"]
        tls = {ca = "ca.pem", server_name = "a.test"}
    """)
    assert server.site.tls.keys() == {"127.0.0.2:0"}
    plain, *encrypted = server.site.proxy.upstreams.endpoints
    assert plain.tls is None
    assert all(endpoint.tls.server_name == "a.test" for endpoint in encrypted)


def test_what_is_wrong_with_tls_is_told(place):
    Authority().issue("a.test").write(place.path, "a")
    problems = place.problems("""
        [[listeners]]
        address = "tls://:8443"
        [[listeners]]
        address = ":8444"
        tls.certificates = [{chain = "a.pem", key = "b.key"}, "a.pem"]
        [[listeners]]
        address = ":8445"
        tls = {certificates = [{chain = "a.pem", key = "a.key"}], client_crl = "crl.pem", min_version = "1.1"}
        [upstreams]
        endpoints = ["127.0.0.1:1", "https://127.0.0.1:2?ca=x"]
    """)
    assert [problem.partition(": ")[0] for problem in problems] == ["3:11", "9:97", "11:29"]
    assert place.problems("""
        [[listeners]]
        address = ":8444"
        tls.certificates = [{chain = "a.pem", key = "b.key"}, "a.pem"]
        [[listeners]]
        address = ":8445"
        tls = {certificates = [{chain = "a.pem", key = "a.key"}], client_crl = "crl.pem"}
        [upstreams]
        endpoints = ["127.0.0.1:1"]
        tls.verify = false
    """) == [
        "4:21: listeners[0].tls.certificates[0]: key b.key: No such file or directory; give the path of a PEM file",
        "4:55: listeners[0].tls.certificates[1]: key a.pem: there is no private key in it; expected PEM",
        "7:7: listeners[1].tls: client_crl: it takes a client_ca as well",
        "10:1: upstreams.tls: no endpoint begins with https://",
    ]


def test_what_is_wrong_with_hosts_and_tickets_is_told(place):
    Authority().issue("a.test").write(place.path, "a")
    text = """
        [upstreams]
        endpoints = ["127.0.0.1:1"]
        [[listeners]]
        address = ":8444"
        tls = {certificates = [{chain = "a.pem", key = "a.key"}], SETTINGS}
    """

    def problem(settings):
        (found,) = place.problems(text.replace("SETTINGS", settings))
        return found.partition(": ")[2]

    assert problem('hosts = {"b.test" = {client_cs = "x"}}') == (
        'listeners[0].tls.hosts."b.test".client_cs: unknown key, did you mean "client_ca"?'
    )
    assert (
        problem('hosts = {"b.test" = {client_crl = "x"}}')
        == "listeners[0].tls: client_crl: it takes a client_ca as well"
    )
    assert problem("client_required = true") == "listeners[0].tls.client_required: it takes a client_ca as well"
    assert (
        problem('hosts = {"b.test" = {client_required = true}}')
        == 'listeners[0].tls.hosts."b.test".client_required: it takes a client_ca as well'
    )
    assert problem('hosts = {"b.test:443" = {}}') == (
        "listeners[0].tls.hosts.\"b.test:443\": expected a DNS name such as 'admin.example.com', or "
        "'*.example.com', without a port, got 'b.test:443'"
    )
    assert problem("hosts = 3") == "listeners[0].tls.hosts: expected a table, got 3"
    assert problem('ticket_lifetime = "1.5s"').startswith("listeners[0].tls.ticket_lifetime: expected seconds")
    assert problem("ticket_lifetime = inf").startswith("listeners[0].tls.ticket_lifetime: expected seconds")
    assert problem('ticket_lifetime = "1s"').endswith("expected 60 to 604800 seconds, got 1")
    assert problem('ticket_secret = "no.key"') == (
        "listeners[0].tls: ticket_secret no.key: No such file or directory; give the path of 32 random bytes or more"
    )
    assert problem('ticket_secret = "a.key", alpn = ["h3"]').startswith("listeners[0].tls.alpn[0]: expected ")
    assert (
        problem('min_version = "1.3", max_version = "1.2"')
        == "listeners[0].tls: min_version 1.3 is above max_version 1.2"
    )
    assert "ciphers" in problem('ciphers = "NONE-SUCH"')
    assert "groups" in problem('groups = "NONE-SUCH"')
