"""The names of classes: read from a file, looked up, and matched with those of others."""

import json
from difflib import get_close_matches
from pathlib import Path

from guided_diffusion.errors import UserError

SHOWN = 20  # names that an error lists


def read_class_names(path, count):
    """The names of a classifier's `count` classes, in its order: a text with one a line, or json.

    The json is a list, or an object that goes from index to name or from name to index.
    Raises UserError where the file is neither, or names not as many.
    """
    if not Path(path).is_file():
        raise UserError(f"--class_names {path} is no file; give a text with one name a line, or json")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        names = _of_json(json.loads(text)) if Path(path).suffix.lower() == ".json" else text.strip().splitlines()
        names = tuple(map(in_one_line, names))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"--class_names {path} holds no names ({error}); see docs/data-and-weights.md") from None
    if len(names) != count:
        raise UserError(f"--class_names {path} has {len(names)} names, but the classifier {count} classes")
    return names


def _of_json(contents):
    """What a json file holds -> the names in the order of the classes; the errors of Python where it is none."""
    if isinstance(contents, dict):
        if all(isinstance(value, int) for value in contents.values()):
            contents = {number: name for name, number in contents.items()}
        by_number = {int(number): name for number, name in contents.items()}
        if set(by_number) != set(range(len(by_number))):
            raise ValueError("its numbers leave some out")
        contents = [by_number[number] for number in range(len(by_number))]
    if not isinstance(contents, list):
        raise ValueError("neither a list nor an object")
    if not all(isinstance(name, str) for name in contents):
        raise ValueError("a name is no text")
    return contents


def in_one_line(name):
    """A name without what would break a line of a text or of the print."""
    return " ".join(str(name).split())


def numbered(count):
    """The names of classes that have none: their numbers."""
    return tuple(map(str, range(count)))


def class_index(names, query, flag):
    """A class by name or number -> its number; UserError, with the flag, where there is no such class, or two."""
    where = [number for number, name in enumerate(names) if name == str(query)]
    if len(where) > 1:
        raise UserError(f"--{flag} {query} names the classes {', '.join(map(str, where))}; give a number")
    if where:
        return where[0]
    if str(query).isdecimal() and int(query) < len(names):
        return int(query)
    raise UserError(f"--{flag} {query} is no class of the classifier; it has {shown(names, query)}")


def shown(names, query=""):
    """The names for an error: all, or of many the most similar ones, or the first."""
    if len(names) <= SHOWN:
        return ", ".join(names)
    similar = get_close_matches(str(query), names) or names[:3]
    return f"{len(names)} classes, such as {', '.join(similar)}"


def match_classes(names, known, having, knowing):
    """The place of each of `names` among `known`, a list: by name, or by number where either has but numbers.

    having, knowing: what has the names and what should know them, for the UserError where they do not agree.
    """
    numbers = {}
    for number, name in enumerate(known):
        numbers.setdefault(name, []).append(number)
    if all(len(numbers.get(name, ())) == 1 for name in names):
        return [numbers[name][0] for name in names]
    if len(names) == len(known) and numbered(len(names)) in (tuple(names), tuple(known)):
        return list(range(len(names)))
    stranger = next(name for name in names if len(numbers.get(name, ())) != 1)
    found = "not one class, but several" if stranger in numbers else "no class"
    raise UserError(
        f"{having} has the class {stranger}, which is {found} of {knowing}: {shown(known, stranger)}; "
        "their names must agree (--class_names)"
    )
