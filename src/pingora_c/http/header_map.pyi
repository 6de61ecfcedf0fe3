from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from typing import Any, TypeVar, final, overload

_T = TypeVar("_T")
_Text = str | bytes
_Fields = Mapping[str, _Text] | Mapping[bytes, _Text] | Iterable[tuple[_Text, _Text]]

class HeaderItems(ItemsView[str, str]): ...
class HeaderValues(ValuesView[str]): ...

@final
class HeaderMap(MutableMapping[str, str]):
    """Header fields as an ordered multi-map of str (latin-1), looked up without regard to case."""

    def __init__(self, fields: _Fields | None = None, /) -> None: ...
    def __len__(self) -> int: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __getitem__(self, name: _Text, /) -> str: ...
    def __setitem__(self, name: _Text, value: _Text, /) -> None: ...
    def __delitem__(self, name: _Text, /) -> None: ...
    def __iter__(self) -> Iterator[str]: ...
    @overload
    def get(self, name: _Text, default: None = None) -> str | None: ...
    @overload
    def get(self, name: _Text, default: str) -> str: ...
    @overload
    def get(self, name: _Text, default: _T) -> str | _T: ...
    def get_all(self, name: _Text) -> list[str]:
        """Return the values of all fields of this name, in order."""

    def add(self, name: _Text, value: _Text) -> None:
        """Append a field, whether or not there are others of this name."""

    def remove(self, name: _Text) -> int:
        """Remove all fields of this name; return how many there were."""

    def items(self) -> HeaderItems:
        """Return a view of the fields as (name, value) in wire order, duplicates included."""

    def keys(self) -> KeysView[str]:
        """Return a view of the names in wire order, as often as they occur."""

    def values(self) -> HeaderValues:
        """Return a view of the values in wire order."""

    @overload
    def pop(self, name: _Text, /) -> str: ...
    @overload
    def pop(self, name: _Text, default: str, /) -> str: ...
    @overload
    def pop(self, name: _Text, default: _T, /) -> str | _T: ...
    def popitem(self) -> tuple[str, str]:
        """Remove the last field that may be removed and return it as (name, value)."""

    def setdefault(self, name: _Text, default: _Text = "", /) -> str:
        """Return the first value of this name; write `default` first if there is none."""

    def update(self, fields: _Fields = (), /, **named: _Text) -> None: ...  # type: ignore[override]
    def clear(self) -> None:
        """Remove every field but those that frame the message or belong to the connection."""

    def copy(self) -> HeaderMap:
        """Return an independent map with the same fields, framing fields included."""

    def __copy__(self) -> HeaderMap: ...
    def __deepcopy__(self, memo: Any) -> HeaderMap: ...
    def __eq__(self, other: object, /) -> bool: ...
