"""The README and the pages of docs/: their size, their links, their flags and their figures."""

import importlib
import re
import runpy
from itertools import dropwhile, takewhile
from pathlib import Path

import pytest
from pages import MARKER, NAMES, PAGES, README, ROOT, SCRIPTS, blocks_of, prose_of
from PIL import Image


def test_the_readme_is_short():
    assert len(README.read_bytes()) <= 9000


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_a_page_begins_with_the_command_that_a_user_came_for_and_the_readme_leads_to_it(page):
    lines = [line for line in page.read_text().splitlines() if line and not MARKER.fullmatch(line)]
    assert lines[0].startswith("# ") and lines[1] == "```bash"
    assert f"(docs/{page.name}" in README.read_text()


def anchors_of(page):
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)", prose_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_and_pictures_lead_somewhere(page):
    links = re.findall(r"\]\(([^)]+)\)", prose_of(page))
    for link in links:
        assert "://" not in link, "a link that no test can follow"
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link
    assert all(Image.open(page.parent / link).width > 100 for link in links if link.endswith(".png"))


def test_every_picture_is_shown():
    shown = set()
    for page in PAGES:
        shown |= {(page.parent / link).resolve() for link in re.findall(r"\]\(([^)]*png)\)", prose_of(page))}
    assert shown == {path.resolve() for path in ROOT.glob("docs/*.png")}


def test_paths_of_the_code_that_are_named_exist():
    for page in PAGES:
        for path in re.findall(r"`([\w-]+/[\w/-]+\.(?:py|sh))`", prose_of(page)):
            assert (ROOT / path).exists(), path
        for name in re.findall(r"`(core\.[\w.]+)`", prose_of(page)):
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), name


def test_the_map_of_the_code_names_what_is_there():
    (tree,) = [block.text for block in blocks_of(README) if "guided_diffusion/" in block.text]
    named = set(re.findall(r"^[\w-]\S*|celeba-train\.sh|compute\*\.sh", tree, re.M))
    assert all(list(ROOT.glob(name)) for name in named)
    rooms = set(re.findall(r"^  (\w+/)", tree, re.M))
    assert rooms == {f"{path.parent.name}/" for path in ROOT.glob("core/*/__init__.py")}
    scripts = {path.name for path in [*ROOT.glob("*.py"), *ROOT.glob("*.sh")]}
    assert {name for name in scripts if not any(Path(name).match(pattern) for pattern in named)} == set()


TERMS = {  # a term -> what says, where it first stands in a page, what it means
    "τ": "--start_step",
    "λc": "--classifier_scales",
    "x_clean": "clean estimate|without its noise",
    "respaced": "--timestep_respacing",
}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
@pytest.mark.parametrize("term", TERMS)
def test_a_term_is_explained_where_it_first_stands(page, term):
    # A row of a table is a paragraph of its own.
    paragraphs = re.split(r"\n\n|\n(?=\|)", prose_of(page))
    first = next((each for each in paragraphs if re.search(rf"(?<!\w){term}(?!\w)", each)), None)
    assert first is None or re.search(TERMS[term], first), first


def test_the_pages_name_where_paper_data_weights_and_small_wheels_are():
    (where,) = re.findall(r"\n## Where from\n(.*?)\n## ", (ROOT / "docs/data-and-weights.md").read_text(), re.S)
    for place in ("arxiv.org/abs/2203.15636", "mmlab.ie.cuhk.edu.hk/projects/CelebA.html", "guillaumejs2403/DiME"):
        assert f"<https://{place}>" in where.replace("github.com/", "")
    assert "arxiv.org/abs/2203.15636" in README.read_text() and "#where-from" in README.read_text()
    assert "download.pytorch.org/whl/cpu" in (ROOT / "docs/installing.md").read_text()


def test_the_half_hour_of_an_image_follows_from_what_was_measured():
    (defaults,) = [row for row in table_under("docs/benchmarks.md", "Sampling") if "the defaults" in row[""]]
    per_second = float(re.match(r"[\d.]+", defaults["CelebA-128, images/s"])[0])
    page = (ROOT / "docs/explaining.md").read_text()
    assert f"{per_second} evaluations a second" in page
    assert f"takes {round((60 + 59 * 58 / 2) / per_second / 60)} minutes an image" in page


# -- the flags ---------------------------------------------------------------------------------------------


def test_the_page_of_flags_is_made_of_the_flags():
    make = runpy.run_path(str(ROOT / "docs/make.py"))
    assert set(make["SCRIPTS"]) == set(SCRIPTS)
    assert make["PAGE"].read_text() == make["flags_page"](), "make docs writes it anew"


# -- the figures -------------------------------------------------------------------------------------------


def table_under(page, heading):
    """The rows of the first table below a heading, each as cells by the titles of their columns."""
    lines = (ROOT / page).read_text().partition(f"\n## {heading}\n")[2].splitlines()
    below = dropwhile(lambda line: not line.startswith("|"), lines)
    titles, _, *rows = map(cells_of, takewhile(lambda line: line.startswith("|"), below))
    return [dict(zip(titles, row, strict=True)) for row in rows]


def cells_of(line):
    """The cells of a line of a table; none where it is no such line."""
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []


def measured():
    """metric -> method -> its value in the table of docs/benchmarks.md."""
    rows = table_under("docs/benchmarks.md", "The methods")
    return {
        row.pop("metric")[:-2]: {name: float(re.match(r"[\d.e-]+", cell)[0]) for name, cell in row.items()}
        for row in rows
    }


TITLES = {
    "evaluations": "evaluations an image",
    "seconds": "seconds an image",
    "s an image": "seconds an image",
    "oracle FR": "Oracle FR",
    "outside": "change outside the true region",
    "change outside": "change outside the true region",
    "L1 to the truth": "distance to the truth",
}


@pytest.mark.parametrize(
    "page, heading", [("README.md", "How fast, how true"), ("docs/methods.md", "How they compare")]
)
def test_a_table_of_the_methods_holds_the_figures_of_benchmarks_md(page, heading):
    exact, rows = measured(), table_under(page, heading)
    assert len(rows) >= 4
    for row in rows:
        method = re.match("`(.+)`", row.pop(next(iter(row))))[1].replace(" --inner_steps ", "-inner-")
        for title, cell in row.items():
            if cell == "–":  # not comparable
                continue
            half = 0.5000001 * 10 ** -len(cell.partition(".")[2])
            assert abs(exact[TITLES.get(title, title)][method] - float(cell)) <= half, (method, title)
