"""The names of classes: read from a file, looked up, and matched with those of others."""

import json
from difflib import get_close_matches
from pathlib import Path

from guided_diffusion.script.errors import UserError

SHOWN = 40  # names that an error lists


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
    """A class by name or number -> its number; UserError, with the flag, where there is no such class, or several.

    What counts first is a whole name, then a number, then one of a name's synonyms: ImageNet's "tench, Tinca tinca"
    is also called by either half.
    """
    by_name, by_synonym = _numbers_of(names), _numbers_of_synonyms(names)
    query = str(query)
    if query not in by_name and query.isdecimal() and int(query) < len(names):
        return int(query)
    found = by_name.get(query) or by_synonym.get(query) or []
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"--{flag} {query} names the classes {', '.join(map(str, found))}; give a number")
    raise UserError(f"--{flag} {query} is no class of the classifier; it has {shown(names, query)}")


def _numbers_of(names):
    """name -> the numbers of the classes that are called so."""
    numbers = {}
    for number, name in enumerate(names):
        numbers.setdefault(name, []).append(number)
    return numbers


def _numbers_of_synonyms(names):
    """synonym -> the numbers of the classes with it among the parts of their names between commas."""
    numbers = {}
    for number, name in enumerate(names):
        for synonym in {part.strip() for part in name.split(",")}:
            numbers.setdefault(synonym, []).append(number)
    return numbers


def shown(names, query="", what="classes"):
    """The names for an error: all, or of many those spelled most like the query, or the first."""
    if len(names) <= SHOWN:
        return ", ".join(names)
    spelled = {}
    for name in names:
        for synonym in (name, *name.split(",")):
            spelled.setdefault(synonym.strip().lower(), name)
    similar = dict.fromkeys(spelled[each] for each in get_close_matches(str(query).lower(), spelled))
    return f"{len(names)} {what}, such as {', '.join(similar or names[:3])}"


def match_classes(names, known, having, knowing):
    """The place of each of `names` among `known`, a list: by name or synonym, or number where either lacks names.

    having, knowing: what has the names and what should know them, for the UserError where they do not agree.
    """
    if tuple(names) == tuple(known):  # also where a name stands twice
        return list(range(len(names)))
    by_name, by_synonym = _numbers_of(known), _numbers_of_synonyms(known)
    places = [by_name.get(name) or by_synonym.get(name) or [] for name in names]
    if all(len(place) == 1 for place in places):
        return [number for (number,) in places]
    if len(names) == len(known) and numbered(len(names)) in (tuple(names), tuple(known)):
        return list(range(len(names)))
    stranger, place = next(each for each in zip(names, places, strict=True) if len(each[1]) != 1)
    found = "not one class, but several" if place else "no class"
    raise UserError(
        f"{having} has the class {stranger}, which is {found} of {knowing}: {shown(known, stranger)}; "
        "their names must agree (--class_names)"
    )
