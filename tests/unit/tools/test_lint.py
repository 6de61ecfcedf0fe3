"""Our own linter finds what it is for, and nothing else."""

import subprocess

import lint
import pytest


def problems(check, tmp_path, files):
    """Write `files` below an empty tree and return what `check` finds, as text without the severity."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [str(problem) for problem in check(lint.Tree(tmp_path))]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        pytest.param("h1/head.pyx", "from pingora_c.http.field cimport Field", None, id="downward"),
        pytest.param("h1/head.pyx", "from pingora_c.h1.framing cimport Framing", None, id="own package"),
        pytest.param("proxy/pump.pyx", "from pingora_c.net.reactor cimport Reactor", None, id="proxy sees all"),
        pytest.param(
            "h1/head.pyx", "from pingora_c.net cimport reactor", "net is not below h1", id="codec knows sockets"
        ),
        pytest.param("h1/head.pyx", "from pingora_c.h2.session cimport x", "h2 is not below h1", id="sideways"),
        pytest.param(
            "mem/arena.pxd", "cimport pingora_c.http.field as f", "http is not below mem", id="upward cimport"
        ),
        pytest.param("log/access.pyi", "import pingora_c.proxy", "proxy is not below log", id="in a stub"),
        pytest.param(
            "proxy/x.pyx", "    from pingora import x", "pingora_c never imports pingora", id="Python package"
        ),
        pytest.param("proxy/x.pyx", "import pingora.proxy", "pingora_c never imports pingora", id="its module"),
        pytest.param("cache/store.pyx", "", "package cache has no row in LAYERS of tools/lint.py", id="new package"),
        pytest.param("h1/head.pyx", "# from pingora_c.net.reactor cimport Reactor", None, id="comment"),
        pytest.param("h1/head.pyx", '"""\nfrom pingora_c.net.reactor cimport Reactor\n"""', None, id="docstring"),
        pytest.param("h1/head.pyx", "from libc.string cimport memcpy\nimport os, sys", None, id="not ours"),
        pytest.param(
            "h1/head.pyx",
            "from pingora_c.net.reactor cimport (\n    Reactor,\n)",
            "net is not below h1",
            id="several lines",
        ),
    ],
)
def test_imports_go_downward(tmp_path, name, text, found):
    path = f"src/pingora_c/{name}"
    line = 1
    assert problems(lint.check_layers, tmp_path, {path: text}) == ([f"{path}:{line}: {found}"] if found else [])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("cdef enum:\n    A = 1 << 20\n    B = -1\n    C = A\n    D\n", [], id="numbers and members"),
        pytest.param("cdef enum:\n    A = 1\n    B = A + 1\n", [3], id="a sum"),
        pytest.param("cdef enum:\n    A = 1\n    B = 2 * A\n", [3], id="a product"),
        pytest.param("# cython: overflowcheck=False\ncdef enum:\n    A = 1\n    B = A + 1\n", [], id="without checks"),
    ],
)
def test_a_sum_of_members_of_an_enum_needs_a_file_without_overflow_checks(tmp_path, text, found):
    path = "src/pingora_c/h1/head.pxd"
    said = "a sum of members breaks the debug build: see stats/layout.pxd"
    assert problems(lint.check_enums, tmp_path, {path: text}) == [f"{path}:{line}: {said}" for line in found]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("cdef int f(int a) noexcept nogil:", id="noexcept"),
        pytest.param("cdef inline const char* f() except NULL:", id="except NULL"),
        pytest.param("cdef int f(self) except? -1", id="except with question mark"),
        pytest.param("cpdef void f(\n    int a,\n    int (*call)(int) noexcept,\n) noexcept:", id="several lines"),
        pytest.param("cdef object f():", id="object"),
        pytest.param("cdef f(x):", id="implicit object"),
        pytest.param("cdef bytes f(int a=g(1)):", id="builtin type"),
        pytest.param("cdef class Pool:\n    pass\ncdef Pool f():", id="extension type"),
        pytest.param("cdef int x = f(1)", id="variable"),
        pytest.param("cdef Pool pool = Pool.new()", id="object variable"),
        pytest.param("cdef class Pool(Base):\n    cdef int size", id="class"),
        pytest.param("cdef enum:\n    A = (1 << 3)", id="enum"),
        pytest.param("cdef extern from 'x.h' nogil:\n    int f(int a)\n    ctypedef int (*g)(int)", id="extern"),
        pytest.param("ctypedef void (*callback)(void*) noexcept nogil", id="function pointer type"),
        pytest.param("cdef struct S:\n    int (*call)(int) noexcept\n    size_t size", id="pointer in a struct"),
        pytest.param("def f(x):\n    return g(x) * (2)", id="Python function"),
        pytest.param("cdef unsigned char[256] TABLE", id="array"),
        pytest.param("x = 'cdef int f()'  # cdef int f()", id="text and comment"),
    ],
)
def test_spelled_contracts_pass(tmp_path, text):
    assert problems(lint.check_contracts, tmp_path, {"src/pingora_c/h1/a.pyx": text + "\n"}) == []


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        pytest.param("cdef int f(int a) nogil:", "f", 1, id="bare"),
        pytest.param("\n\ncdef inline const char* f(\n    int a,\n):", "f", 3, id="several lines"),
        pytest.param("cdef class P:\n    cdef void close(self)", "close", 2, id="method"),
        pytest.param("cpdef bint f()", "f", 1, id="cpdef"),
        pytest.param("ctypedef int (*callback)(void*) nogil", "callback", 1, id="function pointer type"),
        pytest.param("cdef struct S:\n    int (*call)(int noexcept_count)", "call", 2, id="pointer in a struct"),
        pytest.param("cdef extern from 'x.h':\n    int f()\ncdef int g():", "g", 3, id="after an extern block"),
    ],
)
def test_missing_contract_is_found(tmp_path, text, name, line):
    path = "src/pingora_c/h1/a.pxd"
    expected = f"{path}:{line}: {name}: exception contract missing (noexcept or except VALUE)"
    assert problems(lint.check_contracts, tmp_path, {path: text + "\n"}) == [expected]


def test_except_star_is_refused(tmp_path):
    found = problems(lint.check_contracts, tmp_path, {"src/pingora_c/h1/a.pyx": "cdef Span f() except *:\n"})
    assert found == ["src/pingora_c/h1/a.pyx:1: f: `except *` costs a check at every call; spell a value"]


def test_extern_outside_lib_and_included_sources_are_found(tmp_path):
    files = {
        "src/pingora_c/lib/a.pxd": 'cdef extern from "a.h":\n    int f()\n',
        "src/pingora_c/h1/a.pyx": 'cdef extern from "a.h":\n    int f()\ninclude "b.pxi"\n',
    }
    assert problems(lint.check_externs, tmp_path, files) == [
        "src/pingora_c/h1/a.pyx:1: extern outside lib/",
        "src/pingora_c/h1/a.pyx:3: sources are modules with cimports, not included texts",
    ]


def test_long_files_are_a_warning_and_then_an_error(tmp_path):
    files = {
        f"src/pingora/{name}.py": "x\n" * count for name, count in [("a", 400), ("b", 401), ("c", 600), ("d", 601)]
    }
    assert problems(lint.check_sizes, tmp_path, files | {"long.md": "x\n" * 1000}) == [
        "src/pingora/b.py:401: warning: 401 lines, at most 400",
        "src/pingora/c.py:600: warning: 600 lines, at most 400",
        "src/pingora/d.py:601: 601 lines, at most 600",
    ]


@pytest.mark.parametrize("mark", ["TO" + "DO", "FIX" + "ME", "XX" + "X"])
def test_unfinished_work_is_found(tmp_path, mark):
    files = {"a.py": f"x\n# {mark}: later\n", "b.sh": f"mktemp {mark}{mark}\n"}
    assert problems(lint.check_unfinished, tmp_path, files) == [f"a.py:2: {mark}: finish it, or file an issue"]


@pytest.mark.parametrize(
    ("text", "is_visible"),
    [
        pytest.param("def f(): pass", True, id="function"),
        pytest.param("async def f(): pass", True, id="coroutine"),
        pytest.param("cpdef int f() noexcept: pass", True, id="cpdef"),
        pytest.param("class A: pass", True, id="class"),
        pytest.param("cdef class A:\n    cdef readonly int x", True, id="attribute"),
        pytest.param("cdef class A:\n    def __cinit__(self): pass", False, id="hidden"),
        pytest.param("cdef int f() noexcept: return 1", False, id="C only"),
    ],
)
def test_stub_is_needed_where_python_sees_something(tmp_path, text, is_visible):
    path = "src/pingora_c/mem/a.pyx"
    found = problems(lint.check_stubs, tmp_path, {path: text})
    assert found == ([f"{path}:1: Python can see this module, but there is no a.pyi"] if is_visible else [])
    assert problems(lint.check_stubs, tmp_path, {"src/pingora_c/mem/a.pyi": ""}) == []


def test_attribute_declared_in_the_pxd_needs_a_stub(tmp_path):
    files = {
        "src/pingora_c/mem/a.pyx": "cdef class A: pass",
        "src/pingora_c/mem/a.pxd": "cdef class A:\n    cdef public int x",
    }
    assert len(problems(lint.check_stubs, tmp_path, files)) == 1


def test_stub_without_a_module_is_found(tmp_path):
    found = problems(lint.check_stubs, tmp_path, {"src/pingora_c/mem/gone.pyi": ""})
    assert found == ["src/pingora_c/mem/gone.pyi:1: a stub without a module"]


def test_file_without_a_purpose_is_found(tmp_path):
    files = {
        "src/pingora/a.py": "import os\n",
        "src/pingora/b.py": '"""Purpose."""\n',
        "src/pingora/__init__.py": "",
        "tools/c.py": '#!/usr/bin/env python3\n# License\n"""Purpose."""\n',
        "tests/d.py": "import os\n",
    }
    assert problems(lint.check_docstrings, tmp_path, files) == [
        "src/pingora/a.py:1: the file has no docstring that says what it is for"
    ]


def test_generated_files_in_git_are_found(tmp_path):
    files = {"src/pingora_c/h1/head.c": "", "src/pingora_c/h1/head.pyx": "", "src/pingora_c/lib/scan.c": ""}
    assert problems(lint.check_generated, tmp_path, files) == []
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    assert problems(lint.check_generated, tmp_path, {}) == ["src/pingora_c/h1/head.c:1: generated, must not be in git"]


def test_warning_alone_does_not_fail_the_check(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lint, "ROOT", tmp_path)
    problems(lint.check_sizes, tmp_path, {"tests/a.py": "x\n" * 500})
    assert lint.main() == 0
    assert capsys.readouterr().out == "tests/a.py:500: warning: 500 lines, at most 400\n"
    problems(lint.check_sizes, tmp_path, {"tests/a.py": "x\n" * 700})
    assert lint.main() == 1


def test_build_directories_are_left_out(tmp_path):
    files = {"build/a.py": "x\n" * 700, ".venv/b.py": "x\n" * 700}
    assert problems(lint.check_sizes, tmp_path, files) == []
