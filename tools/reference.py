"""The reference of the public names as Markdown: signatures from the sources and stubs, descriptions from docstrings.

Attributes that cannot have a docstring are described by the comment or the text behind them, in the source, the `.pyi`
or the `.pxd`. Nothing is written by hand but the groups.
"""

import ast
import importlib
import inspect
import re
import types
from dataclasses import dataclass, field
from pathlib import Path

# page -> title, what is on it, public names as "module:name"
GROUPS: dict[str, tuple[str, str, list[str]]] = {
    "api/hooks.md": (
        "Hooks",
        "The classes that you write, and what their hooks get and give. [Phases](../phases.md) says what follows from "
        "what. `MaybeAsync[T]` is `T` from a `def`, or from an `async def`; `Ctx` is what `new_ctx` gives, in "
        "`ProxyHttp[State]` a `State`.",
        [
            *("pingora:ProxyHttp", "pingora:HttpModule", "pingora:Session", "pingora:RequestHead"),
            *("pingora:ResponseHead", "pingora:HeaderMap", "pingora:Response", "pingora:LastChunk"),
            *("pingora:ProxyError", "pingora:SessionEnded", "pingora:Timings"),
            *("pingora_c.proxy.websocket:WebSocket", "pingora:WebSocketClose", "pingora:DROP", "pingora:GrpcWeb"),
            *("pingora:TcpProxy", "pingora:TcpSession", "pingora_c.net.proxy_protocol:ProxyProtocol"),
            "pingora:ForwardProxy",
        ],
    ),
    "api/upstreams.md": (
        "Upstreams",
        "Where requests go, and how often they are tried. [Load balancing](../load_balancing.md) is the guide.",
        [
            *("pingora:LoadBalancer", "pingora:HttpPeer", "pingora:PeerOptions", "pingora:RetryPolicy"),
            *("pingora:UpstreamTls", "pingora:Endpoint", "pingora_c.upstream.address:Address", "pingora:NoUpstream"),
            *("pingora:Selection", "pingora:RoundRobin", "pingora:Random", "pingora:LeastConnections"),
            *("pingora:Ketama", "pingora:FnvHash", "pingora:PassiveHealth", "pingora:HealthCheck"),
            *("pingora:HttpHealthCheck", "pingora:TcpHealthCheck", "pingora:Discovery", "pingora:DnsDiscovery"),
            *("pingora:BalancerService", "pingora:Transport", "pingora:Carrier"),
        ],
    ),
    "api/serving.md": (
        "Serving",
        "Listeners, limits, certificates, and what runs beside the requests. [Operations](../operations.md) and "
        "[TLS](../tls.md) are the guides.",
        [
            *("pingora:Server", "pingora:serve", "pingora:Limits", "pingora:TlsSettings", "pingora:Certificate"),
            *("pingora:ClientAuth", "pingora:ClientHello", "pingora_c.net.tls_info:TlsInfo"),
            *("pingora_c.net.tls_info:ClientCertificate", "pingora:AcceptProxyProtocol"),
            *("pingora:BackgroundService", "pingora:publish", "pingora:shared", "pingora:Ring"),
            "pingora:serve_connection",
        ],
    ),
    "api/metrics.md": (
        "Metrics of your own",
        "The module `pingora.metrics`. [Metrics](../metrics.md#metrics-of-your-own) is the guide.",
        [f"pingora.metrics:{name}" for name in ("Counter", "Gauge", "Histogram")],
    ),
    "api/testing.md": (
        "Testing",
        "What the fixtures of the pytest plugin give. [Testing](../hooks.md#testing) is the guide.",
        [f"pingora.testing:{name}" for name in ("proxy_factory", "origin_factory", "RunningProxy", "Origin")],
    ),
}
WIDTH = 100  # of a signature; a longer one has a line for each parameter
HIDDEN = {  # between our own modules; they have no underscore for their sake
    *("for_core", "on_task_done", "failure_rules", "key_kind", "key_name", "peer_options", "context", "rules"),
    *("key_der", "ocsp_der", "ca_ders", "crl_ders", "networks", "CHILD"),
}
READ = re.compile(r"^\s+cdef (?:readonly|public) [\w.*\[\] ]*?\b(\w+)\s+# (.*)$", re.MULTILINE)


def hook_types() -> dict[str, ast.expr]:
    """Return the aliases of what hooks return, but MaybeAsync, which says more than what it stands for."""
    source = inspect.getsource(importlib.import_module("pingora.hook_types"))
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.AnnAssign) and node.value]
    return {ast.unparse(node.target): node.value for node in nodes if ast.unparse(node.target) != "MaybeAsync"}


HOOK_TYPES = hook_types()


@dataclass
class Source:
    """The text that declares a module for Python: its source, or the stub beside a compiled one."""

    lines: list[str]
    tree: ast.Module
    declared: str  # the .pxd of a compiled module
    aliases: dict[str, ast.expr] = field(default_factory=dict)

    @classmethod
    def of(cls, module: types.ModuleType) -> "Source":
        """Read it."""
        package, _, rest = module.__name__.partition(".")
        stub = Path(importlib.import_module(package).__path__[0], *rest.split(".")).with_suffix(".pyi")
        path = stub if stub.exists() else Path(module.__file__ or "")  # all compiled modules may be in one file
        text = path.read_text()
        tree = ast.parse(text)
        pxd = path.with_suffix(".pxd")
        source = cls(text.splitlines(), tree, pxd.read_text() if path.suffix == ".pyi" and pxd.exists() else "")
        source.aliases |= HOOK_TYPES
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and any(one.name.startswith("_") for one in node.names):
                source.aliases |= cls.of(importlib.import_module(str(node.module))).aliases
            if isinstance(node, ast.ClassDef) and node.name.startswith("_"):
                source.aliases[node.name] = ast.Name(node.name[1:])
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("_"):
                name, is_variable = ast.unparse(node.targets[0]), isinstance(node.value, ast.Call)
                source.aliases[name] = ast.Name(name[1:]) if is_variable else node.value
        return source

    def node(self, name: str) -> ast.AST | None:
        """Return what defines a name."""
        for node in self.tree.body:
            if getattr(node, "name", None) == name:
                return node
        return None

    def comment(self, line: int) -> str:
        """Return the comment behind a line of code."""
        found = re.search(r"\s# (?!type: )(.*)$", self.lines[line - 1])
        return found[1] if found else ""

    def text(self, node: ast.AST | None) -> str:
        """Write an expression, with aliases of types spelled out."""
        return "" if node is None else ast.unparse(Spelled(self.aliases).visit(node))


class Spelled(ast.NodeTransformer):
    """Puts what a private alias of a type stands for in its place."""

    def __init__(self, aliases: dict[str, ast.expr]) -> None:
        self._aliases = aliases

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Replace one."""
        if node.id not in self._aliases:
            return node
        return self.visit(ast.parse(ast.unparse(self._aliases[node.id]), mode="eval").body)


@dataclass
class Entry:
    """One name of a reference: `kind` is "attribute" or "method" within a class, else "class", "function", "object"."""

    name: str
    kind: str
    signatures: list[str] = field(default_factory=list)
    text: str = ""
    type: str = ""
    default: str = ""
    members: list["Entry"] = field(default_factory=list)


def description(thing: object) -> str:
    """Return the docstring of an object itself, without the signature that Cython writes into it."""
    own = vars(thing).get("__doc__") if isinstance(thing, type) else getattr(thing, "__doc__", None)
    text = inspect.cleandoc(own or "")
    return re.sub(r"\A(?:[\w.]+\(.*\)(?: -> [^\n]*)?|\w+: '?\w+'?)(?:\n+|\Z)", "", text)


def signature(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, source: Source, is_method: bool) -> str:
    """Write the head of a function, on several lines if it is long."""
    function = node.args
    if is_method and (function.posonlyargs or function.args):
        (function.posonlyargs or function.args).pop(0)
    returned = "" if node.returns is None or name[0].isupper() else f" -> {source.text(node.returns)}"
    parts = [re.sub(r"^(\w+: [^=]*)=", r"\1 = ", part) for part in split_arguments(source.text(function))]
    arguments = ", ".join(parts)
    prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    line = f"{prefix}{name}({arguments}){returned}"
    if len(line) <= WIDTH or not arguments:
        return line
    lines = "".join(f"    {part},\n" for part in parts)
    return f"{prefix}{name}(\n{lines}){returned}"


def split_arguments(text: str) -> list[str]:
    """Split at the commas that stand in no bracket and no text."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        depth += (sign in "([{") - (sign in ")]}") if not quote else 0
        if sign == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def decorators(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return the last words of what decorates a function."""
    return {ast.unparse(one).rpartition(".")[2] for one in node.decorator_list}


def members_of(kind: type, public: set[type]) -> list[Entry]:
    """Describe the public members of a class, those that it has from classes that are not public included."""
    found: dict[str, Entry] = {}
    for base in kind.__mro__:
        if base is not kind and (base in public or not base.__module__.startswith("pingora")):
            continue
        source = Source.of(importlib.import_module(base.__module__))
        node = source.node(base.__name__)
        if isinstance(node, ast.ClassDef):
            before = set(found)
            for entry in declared(base, node, source):
                if entry.name not in before:
                    found[entry.name] = entry
    return list(found.values())


def declared(kind: type, node: ast.ClassDef, source: Source) -> list[Entry]:
    """Describe what the body of a class declares."""
    found: dict[str, Entry] = {}
    comments = dict(READ.findall(source.declared))
    for one, after in zip(node.body, [*node.body[1:], None], strict=True):
        name = getattr(one, "name", None) or ast.unparse(getattr(one, "target", ast.Constant("_")))
        if name.startswith("_") or name in HIDDEN:
            continue
        text = description(getattr(kind, name, None)) if not isinstance(one, ast.AnnAssign) else ""
        beside = source.comment(one.lineno) or written(one, after) or comments.get(name, "")
        if isinstance(one, ast.AnnAssign):
            attribute = getattr(kind, name, None)
            text = description(attribute) if inspect.isdatadescriptor(attribute) else ""
            default = source.text(one.value)
            found[name] = Entry(
                name, "attribute", text=text or beside, type=source.text(one.annotation), default=default
            )
        elif isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            kinds = decorators(one)
            if kinds & {"property", "cached_property"}:
                found[name] = Entry(name, "attribute", text=text or beside, type=source.text(one.returns))
            elif "setter" not in kinds:
                entry = found.setdefault(name, Entry(name, "method", text=text or beside))
                entry.signatures.append(signature(name, one, source, "staticmethod" not in kinds))
    return list(found.values())


def written(node: ast.stmt, after: ast.stmt | None) -> str:
    """Return the docstring of a function in a stub, or the text that stands behind an attribute there."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return ast.get_docstring(node) or ""
    is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    return str(after.value.value) if is_text else ""


def entry_of(place: str, public: set[type]) -> Entry:
    """Describe a public name, given as "module:name"."""
    module, _, name = place.partition(":")
    thing = getattr(importlib.import_module(module), name)
    home = importlib.import_module(getattr(thing, "__module__", module))
    source = Source.of(home)
    node = source.node(getattr(thing, "__name__", name))
    if isinstance(thing, type) and isinstance(node, ast.ClassDef):
        entry = Entry(name, "class", text=description(thing), members=members_of(thing, public))
        starts = [one for one in node.body if getattr(one, "name", "") == "__init__"]
        entry.signatures = [signature(name, one, source, True) for one in starts]
        return entry
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        is_fixture = "fixture" in decorators(node)
        signatures = [] if is_fixture else [signature(name, node, source, False)]
        return Entry(name, "function", signatures, description(thing))
    return Entry(name, "object", text=description(thing) or description(type(thing)))


def entries() -> dict[str, list[Entry]]:
    """Describe everything, by page."""
    things = [getattr(importlib.import_module(one.partition(":")[0]), one.partition(":")[2]) for one in places()]
    public = {thing for thing in things if isinstance(thing, type)}
    return {page: [entry_of(one, public) for one in names] for page, (_, _, names) in GROUPS.items()}


def places() -> list[str]:
    """Return all names, each as "module:name"."""
    return [one for _, _, names in GROUPS.values() for one in names]


def undescribed() -> list[str]:
    """Name what has no description."""
    missing = []
    for entry in (one for page in entries().values() for one in page):
        missing += [entry.name] if not entry.text else []
        told = set(re.findall(r"`(\w+)`", entry.text))
        missing += [f"{entry.name}.{one.name}" for one in entry.members if not one.text and one.name not in told]
    return missing


def pages() -> dict[str, str]:
    """Write the pages, by path."""
    described = entries()
    homes = {entry.name: page for page, found in described.items() for entry in found}
    written = {}
    for page, found in described.items():
        title, about, _ = GROUPS[page]
        parts = [f"# {title}", about, *(part for entry in found for part in section(entry))]
        written[page] = linked("\n\n".join(parts), page, homes) + "\n"
    return written


def section(entry: Entry) -> list[str]:
    """Write the parts of what is told about a name."""
    parts = [f"## {entry.name}", *code(entry.signatures), entry.text]
    attributes = [member for member in entry.members if member.kind == "attribute"]
    if attributes:
        has_defaults = any(member.default for member in attributes)
        rows = ["| attribute | type |" + (" default |" if has_defaults else "") + " |"]
        rows.append("|---|---|---|" + ("---|" if has_defaults else ""))
        for member in attributes:
            default = f" {cell(member.default)} |" if has_defaults else ""
            rows.append(f"| `{member.name}` | {cell(member.type)} |{default} {plain(member.text)} |")
        parts.append("\n".join(rows))
    for member in entry.members:
        if member.kind == "method":
            parts += [f"### {entry.name}.{member.name}", *code(member.signatures), member.text]
    return parts


def code(signatures: list[str]) -> list[str]:
    """Write signatures as a block."""
    return ["```python\n" + "\n".join(signatures) + "\n```"] if signatures else []


def cell(text: str) -> str:
    """Write code into a cell of a table."""
    return f"`{text}`".replace("|", "\\|") if text else ""


def plain(text: str) -> str:
    """Write a description into a cell of a table."""
    return re.sub(r"\s*\n\s*", " ", text).replace("|", "\\|")


def linked(text: str, page: str, homes: dict[str, str]) -> str:
    """Make a link of each public name that stands in backquotes outside of code blocks and headings."""

    def link(match: re.Match[str]) -> str:
        name = match[1]
        if name not in homes:
            return match[0]
        place = "" if homes[name] == page else Path(homes[name]).name
        return f"[`{name}`]({place}#{name.lower()})"

    parts = re.split(r"(^```.*?^```|^#.*?$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith(("```", "#")) else re.sub(r"`(\w+)`", link, part) for part in parts)
