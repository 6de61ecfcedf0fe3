"""Whether C can be compiled here: a compiler alone cannot, without the headers and the start files of libc."""

import functools
import shutil
import subprocess


@functools.cache
def can_compile(compiler: str) -> bool:
    """Compile and link a library of one function; give whether that works."""
    if shutil.which(compiler) is None:
        return False
    command = [compiler, "-shared", "-fPIC", "-o", "/dev/null", "-x", "c", "-"]
    source = b'#include <stdio.h>\nint say(void) { return puts(""); }\n'
    return subprocess.run(command, input=source, stderr=subprocess.DEVNULL, check=False).returncode == 0
