"""The README and the pages of docs/ as the tests read them, and the scripts that they are about."""

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
README, CARD = ROOT / "README.md", ROOT / "models/demo/README.md"
PAGES = [README, *sorted(ROOT.glob("docs/*.md")), CARD]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
MARKER = re.compile(r"<!-- ((?:needs|takes) .*) -->")


@dataclass
class Block:
    """A fenced block of a page. reasons: what it needs or takes, so that no test runs it; none where one does."""

    page: Path
    line: int
    language: str
    text: str
    reasons: tuple[str, ...]

    @property
    def place(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page):
    """The fenced blocks of a page, in order."""
    lines, blocks, start = page.read_text().splitlines(), [], None
    for number, line in enumerate(lines):
        if line.startswith("```") and start is None:
            start = number
        elif line.startswith("```"):
            marker = MARKER.fullmatch(lines[start - 1])
            reasons = tuple(re.sub("needs |takes ", "", marker[1]).split(" and ")) if marker else ()
            blocks.append(Block(page, start + 1, lines[start][3:], "\n".join(lines[start + 1 : number]), reasons))
            start = None
    assert start is None, f"{page}:{start + 1} is not closed"
    return blocks


def prose_of(page):
    """A page without its blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)


@cache
def module_of(script):
    """A root script as a module, dashes in its name or not."""
    spec = importlib.util.spec_from_file_location(script.removesuffix(".py").replace("-", "_"), ROOT / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parser_of(script):
    """The parser of a root script."""
    return module_of(script).create_argparser()
