"""Settings that hold for every test."""

import contextlib

from h2_upstream import h2_origin  # noqa: F401 - a fixture of several files
from hypothesis import settings
from tcp_peers import peer_factory  # noqa: F401 - a fixture of several files

# No test depends on the speed of the machine, and a failure on one machine is a failure on all.
settings.register_profile("pingora", deadline=None, derandomize=True)
settings.load_profile("pingora")


def pytest_configure(config):
    """In a build that counts the core's objects, each test must leave as many as it found."""
    with contextlib.suppress(ImportError):  # a release build, which does not count
        from balance import Balance

        config.pluginmanager.register(Balance())
