"""A flag, declared once: its parser, the check of its value, --help and the documentation all read a Flag.

A script keeps its flags in a dict, name -> Flag.
"""

import argparse
import math
import os
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from .errors import UserError

MANY = 10**9  # the upper end of counts that have no other: within the integers of every library


@dataclass(frozen=True)
class Flag:
    """One flag of a command line.

    default: the value where the flag is not given. None: it has no value then.
    help: what it does. --help adds the choices, the range and the default.
    kind: bool, int, float or str; left out, the default's type, or str where that is None. Or a function (text,
        flag's name) -> value, such as parse_numbers: args hold the text, and whoever needs the value calls it.
    low, high: the smallest and the largest value, both allowed; of a list, the ends for each number.
    choices: the values that it may have, any where there are none.
    group: the heading in --help.
    argument: the argument of a function that the flag becomes, where that has another name.
    many: the flag takes one or more words, and its value is a list.
    """

    default: object
    help: str
    kind: Callable | None = None
    low: float | None = None
    high: float | None = None
    choices: Collection = ()
    group: str = ""
    argument: str | None = None
    many: bool = False

    def __post_init__(self):
        if self.kind is None:
            kind = str if self.default is None or self.many else type(self.default)
            object.__setattr__(self, "kind", kind)

    def check_type(self, name, value):
        """UserError where a value that was read from a file is of a type that this flag has not."""
        types = {bool: (), int: (int,), float: (int, float), str: (str, int)}.get(self.kind, (str, int, float))
        right = self.is_switch if isinstance(value, bool) else isinstance(value, types)
        if value is not None and not right and not self.many:
            raise UserError(f"--{name} {value} is of the wrong type")

    def check(self, name, value):
        """UserError where the value is not finite, out of range or none of the choices. None is not checked."""
        if value is None:
            return
        if self.choices and value not in self.choices:
            raise UserError(f"--{name} {value} is unknown; choose one of {', '.join(self.choices)}")
        read = value if self.kind in (bool, int, float, str) else self.kind(value, name)
        several = isinstance(read, tuple | list)
        must_be = "must be numbers, each" if several else "must be"
        for number in read if several else (read,):
            if isinstance(number, float) and not math.isfinite(number):
                raise UserError(f"--{name} {value} {must_be} finite")
            if self.low is not None and number < self.low:
                raise UserError(f"--{name} {value} {must_be} at least {self.low}")
            if self.high is not None and number > self.high:
                raise UserError(f"--{name} {value} {must_be} from {self.low} to {self.high}")

    @property
    def is_switch(self):
        """Whether True and False are among its values."""
        return self.kind in (bool, parse_bool_or_auto)

    def full_help(self, required=False, with_default=True):
        """The help with the choices, the range and the default, as far as there are any."""
        notes = ["required"] * required
        if self.choices:
            *others, last = self.choices
            notes.append(f"{', '.join(others)} or {last}" if others else last)
        if self.low is not None:
            limits = f"at least {self.low}" if self.high in (None, MANY) else f"from {self.low} to {self.high}"
            notes.append(limits if self.kind in (int, float) else f"each {limits}")
        if with_default and self.default not in (None, "", []):
            notes.append(f"default: {self.default}")
        return self.help + f" ({'; '.join(notes)})" * bool(notes)


# Declarations that many scripts share.
GPU = Flag("0", "index of the GPU; without one the CPU is used")
BATCH_SIZE = Flag(32, "images at a time", low=1, high=65_536)
SEED = Flag(0, "seed of the noise", low=0, high=2**32 - 1)
WORKERS = Flag(2, "number of processes", low=1, high=256)


def group_flags(**tables):
    """heading=flags, ... -> all of the flags in one dict, under their headings, in the order of the headings.

    A flag that names a heading itself goes there. One that is in two of the tables is taken from the later one.
    """
    headings = list(tables)
    flags = {
        name: replace(flag, group=flag.group or heading)
        for heading, table in tables.items()
        for name, flag in table.items()
    }
    return dict(sorted(flags.items(), key=lambda item: headings.index(item[1].group)))


def with_defaults(flags, **defaults):
    """The flags, some of them with other defaults."""
    return flags | {name: replace(flags[name], default=default) for name, default in defaults.items()}


class FlagParser(argparse.ArgumentParser):
    """The parser of a script's flags. What it cannot parse is one line on stderr, and exit code 2.

    --na-me means --name. A switch may stand without a value, which means True.
    docstring: the script's, whose first line --help shows. required: the flags that must be given.
    Parsing raises UserError for a value that cannot be, and for a required flag that is missing.
    """

    def __init__(self, docstring, flags, required=()):
        needed, self.flags, self.required = "".join(f"--{name} ... " for name in required), flags, required
        super().__init__(
            description=(docstring or "").partition("\n")[0],  # python -OO leaves none
            usage=f"%(prog)s {needed}[--flag value ...]",
            allow_abbrev=False,
        )
        groups = {"": self}
        for name, flag in flags.items():
            if flag.group not in groups:
                groups[flag.group] = self.add_argument_group(flag.group)
            groups[flag.group].add_argument(
                f"--{name}",
                type={bool: str2bool, int: int, float: float}.get(flag.kind, str),
                default=flag.default,
                nargs="+" if flag.many else "?" if flag.is_switch else None,
                const="True" if flag.is_switch else None,
                metavar={bool: "BOOL", int: "INT", float: "FLOAT"}.get(flag.kind, "TEXT"),
                help=flag.full_help(name in required).replace("%", "%%"),
            )

    def parse_known_args(self, args=None, namespace=None, check=True):
        words = sys.argv[1:] if args is None else args
        parsed, further = super().parse_known_args([_underscored(word) for word in words], namespace)
        for name, value in vars(parsed).items():
            if isinstance(value, str) and value.startswith("~/"):  # which a shell leaves in --flag=~/path
                setattr(parsed, name, os.path.expanduser(value))
        if check:
            check_flags(parsed, self.flags)
            require_flags(parsed, *self.required)
        return parsed, further

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}; {self.prog} --help tells the flags\n")


def _underscored(word):
    """--na-me=value -> --na_me=value; any other word stays."""
    name, *value = word.partition("=")
    return "".join(["--", name[2:].replace("-", "_"), *value]) if name.startswith("--") else word


def given_flags(parser):
    """The names of the flags that stand on this script's command line."""
    absent = argparse.Namespace(**dict.fromkeys(parser.flags))
    parsed, _ = parser.parse_known_args(namespace=absent, check=False)
    return {name for name, value in vars(parsed).items() if value is not None}


def require_flags(args, *names):
    """UserError for the first of the flags that was not given."""
    for name in names:
        if not getattr(args, name):
            raise UserError(f"--{name} must be given")


def check_flags(args, flags):
    """UserError for the first of the flags whose value in args cannot be. Those that args lack are passed over."""
    for name, flag in flags.items():
        if hasattr(args, name):
            flag.check(name, getattr(args, name))


def str2bool(value):
    """True or False as written on a command line."""
    text = str(value).lower()
    if text in ("yes", "true", "t", "y", "1"):
        return True
    if text in ("no", "false", "f", "n", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{value!r} is neither True nor False")


def parse_bool_or_auto(text, flag):
    """The value of a flag, as written -> True, False or "auto"."""
    try:
        return "auto" if text == "auto" else str2bool(text)
    except argparse.ArgumentTypeError:
        raise UserError(f"--{flag} {text} is unknown; choose True, False or auto") from None


def parse_numbers(text, flag):
    """ "8,10,15" -> (8, 10, 15), whole numbers as int; UserError names the flag."""
    words = str(text).strip().removesuffix(",")
    try:
        values = tuple(float(part) for part in words.split(",")) if words else ()
    except ValueError:
        raise UserError(f"--{flag} {text!r} is not a list of numbers separated by commas") from None
    return tuple(int(v) if v.is_integer() else v for v in values)
