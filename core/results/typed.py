"""What a YAML file holds as dataclasses, whose fields say what it must hold."""

from dataclasses import fields, is_dataclass
from numbers import Real
from types import UnionType
from typing import get_args, get_origin, get_type_hints


def typed(kind, value, name=""):
    """A value of a YAML file as `kind`: a dict as a dataclass, a list as a list or tuple, all else as it is.

    Names that the dataclass does not have are ignored; one that is missing counts as None.
    ValueError, of the names that lead there, for the first value of another type.
    """
    if get_origin(kind) is UnionType:  # of a kind and None
        if value is None:
            return None
        kind = get_args(kind)[0]
    if is_dataclass(kind):
        _require(isinstance(value, dict), name)
        kinds = get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        return kind(**{each: typed(kinds[each], value.get(each), f"{name} {each}".strip()) for each in names})
    if get_origin(kind) in (list, tuple):
        of, *others = get_args(kind)
        _require(isinstance(value, list) and (get_origin(kind) is list or len(value) == 1 + len(others)), name)
        return [typed(of, each, name) for each in value]
    _require(isinstance(value, Real if kind is float else kind), name)
    return value


def _require(fits, name):
    if not fits:
        raise ValueError(name)
