"""The compiled core.

Its modules are linked into one library, `core`, which is loaded when the first of them is asked for.
"""

import sys


class _Core:
    """The last of Python's finders: gives modules that are no files but in the library."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """Find a module of the core, as `importlib.abc.MetaPathFinder` says."""
        if not name.startswith("pingora_c.") or name == "pingora_c.core":
            return None
        from pingora_c import core

        return core.find(name)


sys.meta_path.append(_Core)
