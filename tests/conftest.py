"""Settings that hold for every test."""

from hypothesis import settings

# No test depends on the speed of the machine, and a failure on one machine is a failure on all.
settings.register_profile("pingora", deadline=None, derandomize=True)
settings.load_profile("pingora")
