"""The names of classes: read from a file, looked up, and matched with other names."""

import json
import unicodedata
from collections import defaultdict
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
    """A json file's contents -> the names in the order of the classes; Python's errors where it holds none."""
    if isinstance(contents, dict):
        if all(isinstance(value, int) for value in contents.values()):
            contents = {number: name for name, number in contents.items()}
        by_number = {int(number): name for number, name in contents.items()}
        if set(by_number) != set(range(len(by_number))):
            raise ValueError("its numbers leave some out")
        contents = [name for _, name in sorted(by_number.items())]
    if not isinstance(contents, list):
        raise ValueError("neither a list nor an object")
    if not all(isinstance(name, str) for name in contents):
        raise ValueError("a name is no text")
    return contents


def in_one_line(name):
    """A name with single spaces in place of line breaks and tabs, in Unicode's composed form, as it is typed."""
    return " ".join(unicodedata.normalize("NFC", str(name)).split())


def written(name):
    """A name without what two ways of writing it differ in: case, Unicode's form, characters without a width."""
    visible = (each for each in unicodedata.normalize("NFKC", str(name)) if unicodedata.category(each) != "Cf")
    return "".join(visible).casefold()


def letters(name):
    """The letters and digits of a name, as it is written: `Image-ID` has those of image_id."""
    return "".join(filter(str.isalnum, written(name)))


def refuse_near_names(names, source, meanings):
    """UserError where a column is called nearly as one that has a meaning: it would become a label.

    meanings: the name with a meaning -> what others call it, in letters alone.
    """
    for name in names:
        meant = next((word for word, others in meanings.items() if letters(name) in (word, *others)), name)
        if meant != name:
            raise UserError(f"{source} has the column {name}; call it {meant}, or otherwise where it is a label")


def require_distinct(names, source):
    """UserError, with the source, where a name stands twice, or two differ by case or by Unicode's form alone."""
    firsts = {}
    for name in names:
        form = written(name)
        if form in firsts:
            first = firsts[form]
            alike = "twice" if first == name else f"and {first}, which differ by case or by Unicode's form alone"
            raise UserError(f"{source} has the name {name} {alike}; name each thing once, in one way")
        firsts[form] = name


def numbered(count):
    """The names of classes that have none: their numbers as texts."""
    return tuple(map(str, range(count)))


def class_index(names, query, flag):
    """A class by name or number -> its number; UserError, with the flag, where there is no such class, or several.

    A whole name counts before a number, and that before one of a name's synonyms: ImageNet's "tench, Tinca tinca"
    is also called by either half.
    """
    query = str(query)
    if query not in names and query.isdecimal() and int(query) < len(names):
        return int(query)
    numbers = _numbers_of(names).get(query, [])
    if len(numbers) == 1:
        return numbers[0]
    if numbers:
        raise UserError(f"--{flag} {query} names the classes {', '.join(map(str, numbers))}; give a number")
    raise UserError(f"--{flag} {query} is no class of the classifier; it has {shown(names, query)}")


def _numbers_of(names):
    """A whole name, or a part of a name between commas -> the numbers of the classes that are called so."""
    by_name, by_synonym = defaultdict(list), defaultdict(list)
    for number, name in enumerate(names):
        by_name[name].append(number)
        for synonym in {part.strip() for part in name.split(",")}:
            by_synonym[synonym].append(number)
    return by_synonym | by_name


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


def match_classes(names, others, owner, other_owner):
    """The place of each of `names` among `others`, a list: by name or synonym, or number where either are numbers.

    owner, other_owner: whose names they are, for the UserError where they do not agree.
    """
    if tuple(names) == tuple(others):  # also where a name stands twice
        return list(range(len(names)))
    numbers = _numbers_of(others)
    places = [numbers.get(name, []) for name in names]
    if all(len(place) == 1 for place in places):
        return [number for (number,) in places]
    if len(names) == len(others) and numbered(len(names)) in (tuple(names), tuple(others)):
        return list(range(len(names)))
    stranger, place = next(each for each in zip(names, places, strict=True) if len(each[1]) != 1)
    number = "not one class, but several" if place else "no class"
    raise UserError(
        f"{owner} has the class {stranger}, which is {number} of {other_owner}: {shown(others, stranger)}; "
        "their names must agree (--class_names)"
    )
