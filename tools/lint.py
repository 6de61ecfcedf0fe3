"""Checks of the rules that no other linter knows: layers, exception contracts, externs, sizes, stubs.

The rules and their reasons are in CONTRIBUTING.md. Prints `file:line: problem`, exits 1 if there was an error.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cython_source import Statement, statements

ROOT = Path(__file__).parent.parent

# What the modules of a package may import, itself aside. Only downward: a codec knows no socket, nobody knows proxy.
LAYERS = {
    "lib": set(),
    "base": {"lib"},
    "mem": {"lib", "base"},
    "stats": {"lib", "base"},
    "log": {"lib", "base", "mem"},
    "http": {"lib", "base", "mem"},
    "h1": {"lib", "base", "mem", "http"},
    "h2": {"lib", "base", "mem", "http"},
    "ws": {"lib", "base", "mem"},
    "prelude": {"lib", "base"},
    "net": {"lib", "base", "mem", "stats", "prelude"},
    "upstream": {"lib", "base", "mem", "net", "stats"},
    "proxy": {"lib", "base", "mem", "log", "http", "h1", "h2", "ws", "prelude", "net", "stats", "upstream"},
}
LINES_WARN = 400
LINES_MOST = 600
MEASURED = {".py", ".pyx", ".pxd", ".pyi", ".h", ".c", ".sh"}
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
TEXTS = MEASURED | {".md", ".toml", ".yml"}
SKIPPED = {".git", ".venv", "build", "dist", "__pycache__"}

OBJECTS = {"object", "str", "bytes", "bytearray", "list", "dict", "tuple", "set", "frozenset", "type", "memoryview"}
FUNCTION = re.compile(
    r"(?:cdef|cpdef|ctypedef)\s+(?!class\b|struct\b|enum\b|union\b|extern\b|packed\b|fused\b)([^=(]+)\("
)
POINTER = re.compile(r"(?:(?:cdef|ctypedef)\s+)?(?:const\s+)?[\w. ]+\**\s*\(\s*\*\s*(\w+)\s*\)\s*\(")
IMPORT = re.compile(r"(?:from\s+([\w.]+)\s+c?import\b|c?import\s+([\w., ]+))")


@dataclass(frozen=True)
class Problem:
    """One finding. A warning does not fail the check."""

    path: Path
    line: int
    text: str
    is_warning: bool = False

    def __str__(self) -> str:
        kind = "warning: " if self.is_warning else ""
        return f"{self.path}:{self.line}: {kind}{self.text}"


@dataclass
class Tree:
    """The files of a source tree, each read and split once."""

    root: Path
    texts: dict[Path, str] = field(init=False)
    parsed: dict[Path, list[Statement]] = field(init=False)

    def __post_init__(self) -> None:
        files = (path for path in sorted(self.root.rglob("*")) if path.suffix in TEXTS and path.is_file())
        relative = (path.relative_to(self.root) for path in files)
        kept = [path for path in relative if not SKIPPED & set(path.parts)]
        self.texts = {path: (self.root / path).read_text(errors="replace") for path in kept}
        self.parsed = {path: statements(text) for path, text in self.texts.items() if path.suffix in (".pyx", ".pxd")}

    def compiled(self, *suffixes: str) -> Iterator[Path]:
        """Yield the files of the compiled core with one of `suffixes`."""
        for path in self.texts:
            if path.parts[:2] == ("src", "pingora_c") and path.suffix in suffixes:
                yield path


def check_layers(tree: Tree) -> Iterator[Problem]:
    """Only downward imports among the compiled packages, and none of the Python package."""
    for path in tree.compiled(".pyx", ".pxd", ".py", ".pyi"):
        package = path.parts[2] if len(path.parts) > 3 else None
        if package is not None and package not in LAYERS:
            yield Problem(path, 1, f"package {package} has no row in LAYERS of tools/lint.py")
            continue
        for statement in tree.parsed.get(path) or statements(tree.texts[path]):
            for target in imported(statement.text):
                parts = target.split(".")
                if parts[0] == "pingora":
                    yield Problem(path, statement.line, "pingora_c never imports pingora")
                elif parts[0] == "pingora_c" and package and not set(parts[1:2]) <= LAYERS[package] | {package}:
                    yield Problem(path, statement.line, f"{parts[1]} is not below {package}")


def imported(statement: str) -> list[str]:
    """Return the modules that an import statement names."""
    match = IMPORT.match(statement)
    if match is None:
        return []
    if match[1]:
        return [match[1]]
    return [name.split(" as ")[0].strip() for name in match[2].split(",")]


def check_contracts(tree: Tree) -> Iterator[Problem]:
    """Every C function and function pointer says noexcept or except VALUE."""
    classes = {
        match[1]
        for parsed in tree.parsed.values()
        for statement in parsed
        if (match := re.match(r"(?:cdef|cpdef)\s+(?:public\s+|api\s+)?class\s+(\w+)", statement.text))
    }
    for path in tree.compiled(".pyx", ".pxd"):
        for statement in tree.parsed[path]:
            if statement.is_extern:
                continue
            declared = declaration(statement.text)
            if declared is None:
                continue
            name, returned, tail = declared
            if re.search(r"\bexcept\s*\*", tail):
                yield Problem(path, statement.line, f"{name}: `except *` costs a check at every call; spell a value")
            elif returned not in OBJECTS | classes and not re.search(r"\b(noexcept|except)\b", tail):
                yield Problem(path, statement.line, f"{name}: exception contract missing (noexcept or except VALUE)")


def declaration(text: str) -> tuple[str, str, str] | None:
    """Split the declaration of a C function or function pointer into name, returned type and what follows."""
    if pointer := POINTER.match(text):
        returned = "object" if re.match(r"(?:cdef|ctypedef)\s+object\s*\(", text) else ""
        return pointer[1], returned, after_parenthesis(text, pointer.end())
    function = FUNCTION.match(text)
    if function is None:
        return None
    words = re.findall(r"[\w.]+|\*|\[.*?\]", function[1])
    words = [word for word in words if word not in ("inline", "public", "api", "const")]
    if not words:
        return None
    returned = "object" if len(words) == 1 or words[-2].startswith("[:") else words[-2]
    return words[-1], returned, after_parenthesis(text, function.end())


def after_parenthesis(text: str, start: int) -> str:
    """Return what follows the parenthesis that was opened just before `start`."""
    depth = 1
    for at in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return text[at + 1 :]
    return ""


def check_externs(tree: Tree) -> Iterator[Problem]:
    """Declarations of C live in lib/ alone, and no source is included as text."""
    for path in tree.compiled(".pyx", ".pxd"):
        for statement in tree.parsed[path]:
            if re.match(r"cdef\s+extern\b", statement.text) and path.parts[2] != "lib":
                yield Problem(path, statement.line, "extern outside lib/")
            if re.match(r"include\s", statement.text):
                yield Problem(path, statement.line, "sources are modules with cimports, not included texts")


def check_enums(tree: Tree) -> Iterator[Problem]:
    """Cython 3.3 cannot translate sums of members of an enum with overflowcheck, which the debug build sets."""
    for path in tree.compiled(".pxd"):
        if "# cython: overflowcheck=False\n" in tree.texts[path]:
            continue
        for statement in tree.parsed[path]:
            if re.match(r"[A-Z][A-Z_0-9]* = (?=.*[A-Z]).*\w *[-+*]", statement.text):
                yield Problem(path, statement.line, "a sum of members breaks the debug build: see stats/layout.pxd")


def check_sizes(tree: Tree) -> Iterator[Problem]:
    """One concept per file: past 400 lines a warning, past 600 an error."""
    for path, text in tree.texts.items():
        lines = text.count("\n")
        if path.suffix in MEASURED and lines > LINES_WARN:
            most = lines > LINES_MOST
            yield Problem(path, lines, f"{lines} lines, at most {LINES_MOST if most else LINES_WARN}", not most)


def check_unfinished(tree: Tree) -> Iterator[Problem]:
    """Nothing in the tree is marked as unfinished."""
    for path, text in tree.texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            if match := UNFINISHED.search(line):
                yield Problem(path, number, f"{match[1]}: finish it, or file an issue")


def check_stubs(tree: Tree) -> Iterator[Problem]:
    """A module that Python can see something of has a .pyi beside it, and a .pyi has its module."""
    for path in tree.compiled(".pyx"):
        stub = path.with_suffix(".pyi")
        declared = tree.parsed.get(path.with_suffix(".pxd"), [])
        if stub not in tree.texts and any(map(is_visible, (*tree.parsed[path], *declared))):
            yield Problem(path, 1, f"Python can see this module, but there is no {stub.name}")
    for path in tree.compiled(".pyi"):
        if path.with_suffix(".pyx") not in tree.texts and path.with_suffix(".py") not in tree.texts:
            yield Problem(path, 1, "a stub without a module")


def is_visible(statement: Statement) -> bool:
    """Return True if a statement gives Python a function, method or attribute."""
    if match := re.match(r"(?:async\s+)?def\s+(\w+)", statement.text):
        return match[1] not in ("__cinit__", "__dealloc__")
    return bool(re.match(r"cpdef\b|class\s|cdef\s+(public|readonly)\b", statement.text))


def check_docstrings(tree: Tree) -> Iterator[Problem]:
    """Every source begins with its purpose."""
    for path, text in tree.texts.items():
        is_source = path.parts[0] in ("src", "tools", "examples") and path.suffix in (".py", ".pyx", ".pxd")
        # An __init__ may be empty; the gateway is the file that the documentation quotes, without a word more.
        is_source = is_source and path.as_posix() != "examples/gateway.py"
        if is_source and text.strip() and not re.match(r'(\s|#.*\n)*r?"""', text):
            yield Problem(path, 1, "the file has no docstring that says what it is for")


def check_generated(tree: Tree) -> Iterator[Problem]:
    """Generated C, annotations and compiled modules are not in git."""
    try:
        listed = subprocess.run(["git", "ls-files", "src"], cwd=tree.root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return  # no git, or a source archive
    for name in listed.stdout.splitlines():
        if Path(name).suffix in (".c", ".cpp", ".html", ".so", ".o") and "lib" not in Path(name).parts:
            yield Problem(Path(name), 1, "generated, must not be in git")


CHECKS = [
    check_layers,
    check_contracts,
    check_externs,
    check_enums,
    check_sizes,
    check_unfinished,
    check_stubs,
    check_docstrings,
    check_generated,
]


def main() -> int:
    """Check the repository; return the exit code."""
    tree = Tree(ROOT)
    problems = [problem for check in CHECKS for problem in check(tree)]
    for problem in sorted(problems, key=lambda problem: (problem.path, problem.line)):
        sys.stdout.write(f"{problem}\n")
    return 1 if any(not problem.is_warning for problem in problems) else 0


if __name__ == "__main__":
    sys.exit(main())
