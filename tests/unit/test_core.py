import importlib
import inspect
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest

import pingora_c.h2.session
import pingora_c.proxy.session
from pingora_c import core
from pingora_c.http.message import RequestHead
from pingora_c.stats import reading


@pytest.mark.parametrize("name", core.names())
def test_every_module_is_imported_from_the_library_under_its_own_name(name):
    module = importlib.import_module(name)
    assert module.__name__ == module.__spec__.name == name
    assert module.__package__ == name.rpartition(".")[0]
    assert module.__file__ == module.__spec__.origin == core.__file__


def test_modules_with_the_same_last_name_are_two():
    assert pingora_c.proxy.session.Session.__module__ == "pingora_c.proxy.session"
    assert not hasattr(pingora_c.h2.session, "Session")


def test_a_module_is_made_once():
    assert importlib.reload(pingora_c.proxy.session) is pingora_c.proxy.session
    assert importlib.import_module("pingora_c.proxy.session") is pingora_c.proxy.session


def test_classes_and_functions_are_found_again_by_their_names():
    for thing in (RequestHead, pingora_c.proxy.session.Session, core.names):
        assert pickle.loads(pickle.dumps(thing)) is thing


def test_a_class_is_in_the_file_of_the_library():
    assert inspect.getfile(RequestHead) == core.__file__


@pytest.mark.parametrize("name", ["pingora_c.absent", "pingora_c.proxy.absent", "pingora_c.h2.sess"])
def test_what_the_core_does_not_hold_is_not_found(name):
    assert core.find(name) is None
    with pytest.raises(ModuleNotFoundError, match=name):
        importlib.import_module(name)


def test_what_a_supervisor_maps_is_not_in_the_library():
    assert "pingora_c.stats.reading" not in core.names()
    assert Path(reading.__file__).parent.name == "stats"


@pytest.mark.skipif(not shutil.which("nm"), reason="nm reads the names that the library exports")
def test_the_library_exports_its_beginning_and_nothing_else():
    exported = subprocess.run(
        ["nm", "--dynamic", "--defined-only", "--format=just-symbols", core.__file__],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert exported == ["PyInit_core"]
