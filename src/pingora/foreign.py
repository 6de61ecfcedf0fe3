"""Code that a program's author did not write: the interpreter's, installed packages', our own.

By paths alone: `sysconfig` would load the variables of the interpreter's build into every process.
"""

import os
import sys

STANDARD = os.path.dirname(os.__file__)
OURS = os.path.dirname(__file__)
PACKAGES = ("site-packages", "dist-packages", "lib-dynload")  # what directories of installed modules are called
FOREIGN = (
    STANDARD,
    *(path for path in sys.path if os.path.basename(path) in PACKAGES),
    OURS,
    os.path.join(os.path.dirname(OURS), "pingora_c"),
    "<frozen",
)


def is_foreign(file: str) -> bool:
    """True for the file of a module, or of a code object, that is not the program's own."""
    return file.startswith(FOREIGN)
