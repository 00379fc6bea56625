"""report.py as the tests run it, and its pages and its data as they read them. Without a browser."""

import csv
import json
from html.parser import HTMLParser
from urllib.parse import unquote

from scripts import call_script, error_of

NASTY = "<script>alert('🦊')</script>"


class Page(HTMLParser):
    """What a page holds: its text, its elements, and the addresses that it leads to."""

    def __init__(self, path):
        super().__init__()
        self.folder, self.elements, self.words, self.addresses = path.parent, [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        self.addresses += [attributes[name] for name in ("src", "href") if name in attributes]

    def handle_data(self, data):
        self.words.append(data)

    def of(self, tag, **wanted):
        return [a for name, a in self.elements if name == tag and wanted.items() <= a.items()]

    @property
    def cards(self):
        return self.of("article")

    @property
    def ids(self):
        return [a["id"] for _, a in self.elements if "id" in a]

    def assert_whole(self):
        """Every address leads to a file, every image has a text beside it, and no id stands twice."""
        files = [a for a in self.addresses if not a.startswith(("#", "data:"))]
        assert all((self.folder / unquote(address.partition("#")[0])).is_file() for address in files)
        assert all(image["alt"] for image in self.of("img")) and len(self.ids) == len(set(self.ids))


def report(root, *exp_names, **flags):
    """A report that must succeed -> the folder of its pages."""
    words = ["--output_path", root, "--exp_names", *exp_names]
    for name, value in flags.items():
        words += [f"--{name}", value]
    code, out, err = call_script("report.py", words)
    assert code == 0 and out == f"the report: {root}/report/index.html\n", err
    return root / "report"


def index(root, *exp_names, **flags):
    """The first page of a report."""
    return Page(report(root, *exp_names, **flags) / "index.html")


def refused(root, *exp_names):
    """The one line of a report that must end with exit code 2."""
    return error_of(call_script("report.py", ["--output_path", root, "--exp_names", *exp_names]))


def figures(folder):
    return json.loads((folder / "data.json").read_text())


def figures_of(root, exp_name="exp"):
    """What data.json says of an experiment, which alone is reported."""
    (experiment,) = figures(report(root, exp_name))["experiments"]
    return experiment


def rows_of(folder):
    with open(folder / "data.csv", newline="") as file:
        return list(csv.DictReader(file))
