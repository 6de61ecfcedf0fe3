"""The hook class that a configuration names: found, imported, constructed; each fault with its place in both files."""

import importlib
import importlib.util
import inspect
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, cast

from pingora.config.model import HookTable
from pingora.config.problems import Source, did_you_mean
from pingora.proxy import ProxyHttp
from pingora.tcp import TcpProxy
from pingora.usage import UsageError, is_loading

ProxyClass: TypeAlias = type[ProxyHttp] | type[TcpProxy]


def find_hook(source: Source, hook: HookTable | None, base: ProxyClass = ProxyHttp) -> ProxyClass | None:
    """Import the class that a file names; `base` if it names none; None, with the reasons noted, if that fails."""
    if hook is None:
        return base
    found = find_class(source, hook, base)
    return found if found is not None and check_options(source, found, hook.options) else None


def construct(source: Source, found: ProxyClass, hook: HookTable | None) -> ProxyHttp | TcpProxy | None:
    """Make the proxy object; None, with the reason noted, if its constructor raises."""
    token = is_loading.set(True)
    try:
        return found(**hook.options) if hook is not None else found()
    except BaseException as error:
        source.value_problem(class_path(source), f"{found.__name__}() raised {told(error, source)}")
        return None
    finally:
        is_loading.reset(token)


def class_path(source: Source) -> tuple[str, ...]:
    """Give the path of the key that names the class, in its short form or in a table."""
    return ("hook", "class") if isinstance(source.values.get("hook"), dict) else ("hook",)


def find_class(source: Source, hook: HookTable, base: ProxyClass) -> ProxyClass | None:
    """Import the module and take the class, or note what is wrong."""
    name, _, class_name = hook.cls.partition(":")
    module = import_hook_module(source, name)
    if module is None:
        return None
    found = getattr(module, class_name, None)
    if is_proxy_class(found, base):
        return cast("ProxyClass", found)
    if found is not None:
        message = f"{class_name} of {file_of(module)} is no class that extends pingora.{base.__name__}"
    else:
        known = [key for key, value in vars(module).items() if is_proxy_class(value, base) and value is not base]
        hint = did_you_mean(class_name, known) or list_of(known, base)
        message = f"{file_of(module)} has no class {class_name}{hint}"
    source.value_problem(class_path(source), message)
    return None


def is_proxy_class(value: Any, base: ProxyClass) -> bool:
    """True for a class that can be a hook."""
    return isinstance(value, type) and issubclass(value, base)


def list_of(names: list[str], base: ProxyClass) -> str:
    """Give the end of a message that says what there is."""
    return f"; there is {', '.join(names)}" if names else f"; it has no class that extends pingora.{base.__name__}"


def file_of(module: ModuleType) -> str:
    """Give a module's file as a person wants to see it."""
    return shortened(module.__file__) if module.__file__ else module.__name__


def shortened(file: str) -> str:
    """Give a path relative to the present directory if it is below it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def import_hook_module(source: Source, name: str) -> ModuleType | None:
    """Import a module that stands beside the file or on sys.path, or note what is wrong."""
    directory = str(Path(source.name).resolve().parent)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    importlib.invalidate_caches()  # the file may be younger than what the import system remembers
    beside = Path(directory, *name.split("."))
    files = [file for file in (beside.with_name(f"{beside.name}.py"), beside / "__init__.py") if file.is_file()]
    token = is_loading.set(True)
    try:
        module = importlib.import_module(name)
    except BaseException as error:
        if (
            isinstance(error, ModuleNotFoundError)
            and error.name is not None
            and f"{name}.".startswith(f"{error.name}.")
        ):
            near = did_you_mean(name, sorted(file.stem for file in Path(directory).glob("*.py")))
            message = f"there is no module {name} beside this file or on the path{near}"
        else:
            message = f"importing {name} raised {told(error, source)}"
        source.value_problem(class_path(source), message)
        return None
    finally:
        is_loading.reset(token)
    if files and (not module.__file__ or not any(os.path.samefile(module.__file__, file) for file in files)):
        taken = f"{shortened(str(files[0]))} cannot be imported: the name {name} belongs to another module; rename it"
        source.value_problem(class_path(source), taken)
        return None
    return module


def check_options(source: Source, hook: ProxyClass, options: dict[str, Any]) -> bool:
    """Say whether the constructor takes these options; note what is wrong."""
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):
        return True  # it cannot be known before it is called
    parameters = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD)
    ]
    names = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    unknown = [name for name in options if name not in names] if len(names) == len(parameters) else []
    for name in unknown:
        message = f"{hook.__name__} takes no such option{did_you_mean(name, names)}"
        source.key_problem(("hook", "options", name), message)
    missing = [
        parameter.name
        for parameter in parameters
        if parameter.name in names and parameter.default is parameter.empty and parameter.name not in options
    ]
    for name in missing:
        source.key_problem(("hook", "options", name), f"missing, {hook.__name__} needs it")
    return not unknown and not missing


def told(error: BaseException, source: Source) -> str:
    """Describe an exception in one line, with the place in the user's code."""
    if isinstance(error, SystemExit):
        what = f"SystemExit: the code called sys.exit({error.code!r})"
    elif isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} at {shortened(error.filename)}:{error.lineno}"
    elif isinstance(error, UsageError):
        what = str(error)
    else:
        what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".removesuffix(": ")
    place = place_in(error, str(Path(source.name).resolve().parent))
    return f"{what} at {place}" if place else what


def place_in(error: BaseException, directory: str) -> str:
    """Give FILE:LINE of the innermost frame that is not ours or the import system's; those in `directory` first."""
    inside = elsewhere = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(directory + os.sep):
            inside = f"{shortened(file)}:{trace.tb_lineno}"
        elif not file.startswith("<") and file not in (__file__, importlib.__file__):
            elsewhere = f"{shortened(file)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return inside or elsewhere
