"""What a YAML file holds as dataclasses, whose fields say what it must hold."""

from dataclasses import fields, is_dataclass
from numbers import Real
from typing import get_args, get_origin, get_type_hints


def typed(kind, value, name=""):
    """A value of a YAML file as `kind`: a dict as a dataclass, a list as list[...], all else as it is.

    Names that the dataclass does not have are ignored; one that is missing counts as None.
    ValueError, of the names that lead there, for the first value of another type.
    """
    if is_dataclass(kind):
        _require(isinstance(value, dict), name)
        kinds = get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        return kind(**{each: typed(kinds[each], value.get(each), f"{name} {each}".strip()) for each in names})
    if get_origin(kind) in (list, tuple):
        _require(isinstance(value, list), name)
        return [typed(get_args(kind)[0], each, name) for each in value]
    _require(isinstance(value, tuple(Real if each is float else each for each in get_args(kind) or (kind,))), name)
    return value


def _require(fits, name):
    if not fits:
        raise ValueError(name)
