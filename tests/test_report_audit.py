"""The report's page of an audit."""

import shutil

import pandas as pd
import pytest
import yaml
from scripts import call_script
from test_report import NASTY, Page, figures, refused, report
from toy_audit import write_experiment
from toy_report import name_attributes, write_names
from toy_report import write_experiment as write_changed


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """An audited experiment of twelve images, and one that was not audited."""
    root = tmp_path_factory.mktemp("audited")
    write_experiment(root, [("Smiling", "Eyeglasses", "Mark")] * 12, "smile")
    write_experiment(root, [("Smiling",)] * 12, "other")
    flags = {"output_path": root, "exp_names": "smile", "classifier_path": "toy_audit:spoiled"}
    code, _, err = call_script("audit.py", flags | {"oracle_path": "toy_audit:oracle"})
    assert code == 0, err
    return root


@pytest.fixture
def audited(once, tmp_path):
    """A copy of it, which a test may change."""
    return shutil.copytree(once, tmp_path / "out")


def rewrite(root, change):
    """Rewrites audit.yaml of smile; change: what it holds -> what it is to hold."""
    path = root / "Results/smile/audit/audit.yaml"
    path.write_text(yaml.safe_dump(change(yaml.safe_load(path.read_text()))))


def test_it_has_the_verdict_the_table_the_map_and_examples_with_what_was_put_back(audited):
    folder = report(audited, "smile", "other")
    page = Page(folder / "audit.html")
    found = yaml.safe_load((audited / "Results/smile/audit/audit.yaml").read_text())
    assert found["verdict"] in page.text and all(limit in page.text for limit in found["limits"])
    assert found["verdict"] in Page(folder / "index.html").text
    rows = page.text.partition("The attributes, ranked")[2].partition("Where in the image")[0]
    assert rows.index("Eyeglasses used") < rows.index("Smiling asked about") and "Young" not in rows
    files = [a for a in page.addresses if not a.startswith(("#", "data:"))]
    assert all((folder / a.partition("#")[0]).is_file() for a in files)
    assert "../Results/smile/audit/map.png" in page.addresses and all(image["alt"] for image in page.of("img"))
    example = found["attributes"][0]["examples"][0]
    assert f"../Results/smile/audit/{example['picture']}" in page.addresses
    for name in ("index.html", "failures.html"):
        assert "audit.html" in Page(folder / name).addresses
    links = [a for a in page.addresses if a.startswith("index.html#")]
    ids = {a["id"] for _, a in Page(folder / "index.html").elements if "id" in a}
    assert links and all(link.partition("#")[2] in ids for link in links)


def test_a_report_without_an_audit_has_no_such_page(audited):
    folder = report(audited, "other")
    assert not (folder / "audit.html").exists() and "audit.html" not in (folder / "index.html").read_text()


@pytest.mark.parametrize(
    "attribute, data, said",
    [
        ("Eyeglasses", True, "but the audit found that the classifier uses it: see the audit's page."),
        ("Eyeglasses", False, "but the audit found that the classifier uses it: see the audit's page."),
        (
            "Young",
            True,
            "so its change alone does not show that the classifier uses it, and the audit does not name",
        ),
        ("Hat", True, "so its change alone does not show that the classifier uses it."),  # not in the audit
    ],
)
def test_what_limits_the_finding_does_not_contradict_the_audit(audited, attribute, data, said):
    names = ("Smiling", attribute, "Male")
    if data:
        write_names(audited / "data", names)
        labels = audited / "data/list_attr_celeba.csv"
        table = pd.read_csv(labels).assign(**{attribute: lambda t: t["Smiling"]})
        table.to_csv(labels, index=False)
    kept = audited / "Results/smile/audit/audit.yaml"
    text = kept.read_text()
    shutil.rmtree(audited / "Results/smile")
    write_changed(audited, "smile", flags={"data_dir": str(audited / "data")})
    kept.parent.mkdir()
    kept.write_text(text)
    name_attributes(audited, "smile", names)
    (found,) = figures(report(audited, "smile"))["experiments"]
    (limit,) = [limit for limit in found["limits"] if "uses it" in limit]
    assert (
        limit.startswith(f"{attribute} goes with" if data else f"Whether {attribute} goes with") and said in limit
    )


def test_an_audit_of_one_image_and_one_attribute_is_singular(audited):
    def shrink(found):
        return found | {
            "images": 1,
            "attributes": found["attributes"][:1],
            "clusters": [found["clusters"][0] | {"n": 1}],
        }

    rewrite(audited, shrink)
    text = Page(report(audited, "smile") / "audit.html").text
    assert "owed to it; by it they are ranked. The intervals hold with 95 %." in text
    assert "1 image, most of all at" in text and "all 1" not in text and "All images change" not in text


def test_names_are_text(audited):
    def rename(found):
        found["attributes"][0]["attribute"] = found["places"][0]["place"] = NASTY
        return found | {"verdict": NASTY}

    rewrite(audited, rename)
    page = Page(report(audited, "smile") / "audit.html")
    assert page.text.count(NASTY) >= 4 and page.of("script") == [{"src": "report.js", "defer": None}]


def test_examples_whose_pictures_are_gone_are_left_out(audited):
    for path in (audited / "Results/smile/audit").rglob("*.png"):
        path.unlink()
    page = Page(report(audited, "smile") / "audit.html")
    assert "put back" not in [figure.get("alt") for figure in page.of("img")] and "Eyeglasses used" in page.text


@pytest.mark.parametrize("part", ["verdict", "attributes", "places", "images"])
def test_a_damaged_audit_is_one_line(audited, part):
    rewrite(audited, lambda found: {name: value for name, value in found.items() if name != part})
    assert f"audit.yaml is not what audit.py wrote ({part}); run audit.py again" in refused(audited, "smile")


@pytest.mark.parametrize(
    "name, value",
    [
        ("limits", 3),
        ("limits", [{"a": 1}]),
        ("attributes", [{"attribute": "Bald"}]),
        ("attributes", "none"),
        ("places", [7]),
        ("clusters", [{"place": "top", "n": 3, "examples": [[1]]}]),
        ("images", "many"),
    ],
)
def test_an_audit_with_values_of_another_kind_is_one_line(audited, name, value):
    rewrite(audited, lambda found: found | {name: value})
    assert f"audit.yaml is not what audit.py wrote ({name}" in refused(audited, "smile")


def test_a_value_without_its_interval_is_one_line(audited):
    def tear(found):
        found["attributes"][0]["effect_low"] = None
        return found

    rewrite(audited, tear)
    assert "audit.yaml is not what audit.py wrote (effect)" in refused(audited, "smile")


def test_an_audit_that_is_older_than_the_run_says_so(audited):
    assert "earlier state" not in Page(report(audited, "smile") / "audit.html").text
    write_experiment(audited, [("Smiling", "Eyeglasses", "Mark")] * 13, "smile")
    assert "This audit is of an earlier state of the run" in Page(report(audited, "smile") / "audit.html").text
