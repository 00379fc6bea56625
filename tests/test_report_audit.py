"""The report's page of an audit."""

import shutil

import pandas as pd
import pytest
import yaml
from report_pages import NASTY, Page, figures_of, refused, report
from scripts import call_script, output_of
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
    output_of(call_script("audit.py", flags | {"oracle_path": "toy_audit:oracle"}))
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
    findings = yaml.safe_load((audited / "Results/smile/audit/audit.yaml").read_text())
    assert findings["verdict"] in page.text and all(limit in page.text for limit in findings["limits"])
    assert findings["verdict"] in Page(folder / "index.html").text
    rows = page.text.partition("The attributes, ranked")[2].partition("Where in the image")[0]
    assert rows.index("Eyeglasses used") < rows.index("Smiling asked about") and "Young" not in rows
    page.assert_whole()
    example = findings["attributes"][0]["examples"][0]
    pictures = {"../Results/smile/audit/map.png", f"../Results/smile/audit/{example['picture']}"}
    assert pictures <= set(page.addresses)
    assert all("audit.html" in Page(folder / name).addresses for name in ("index.html", "failures.html"))
    links = {a.partition("#")[2] for a in page.addresses if a.startswith("index.html#")}
    assert links and links <= set(Page(folder / "index.html").ids)


def test_a_report_without_an_audit_has_no_such_page(audited):
    folder = report(audited, "other")
    assert not (folder / "audit.html").exists() and "audit.html" not in (folder / "index.html").read_text()


USED = "but the audit found that the classifier uses it: see the audit's page."
UNSAID = "so its change alone does not show that the classifier uses it"


@pytest.mark.parametrize(
    "attribute, data, said",
    [
        ("Eyeglasses", True, USED),
        ("Eyeglasses", False, USED),
        ("Young", True, f"{UNSAID}, and the audit does not name"),
        ("Hat", True, f"{UNSAID}."),  # not in the audit
    ],
)
def test_what_limits_the_finding_does_not_contradict_the_audit(audited, attribute, data, said):
    names = ("Smiling", attribute, "Male")
    if data:
        write_names(audited / "data", names)
        labels = audited / "data/list_attr_celeba.csv"
        table = pd.read_csv(labels).assign(**{attribute: lambda t: t["Smiling"]})
        table.to_csv(labels, index=False)
    (audited / "Results/smile/audit").rename(audited / "aside")
    shutil.rmtree(audited / "Results/smile")
    write_changed(audited, "smile", flags={"data_dir": str(audited / "data")})
    (audited / "aside").rename(audited / "Results/smile/audit")
    name_attributes(audited, "smile", names)
    (limit,) = [limit for limit in figures_of(audited, "smile")["limits"] if "uses it" in limit]
    assert limit.startswith(f"{attribute} goes" if data else f"Whether {attribute} goes") and said in limit


def audit_page(root):
    return Page(report(root, "smile") / "audit.html")


def test_an_audit_of_one_image_and_one_attribute_is_singular(audited):
    def shrink(findings):
        clusters = [findings["clusters"][0] | {"n": 1}]
        return findings | {"images": 1, "attributes": findings["attributes"][:1], "clusters": clusters}

    rewrite(audited, shrink)
    text = audit_page(audited).text
    assert "owed to it; by it they are ranked. The intervals hold with 95 %." in text
    assert "1 image, most of all at" in text and "all 1" not in text and "All images change" not in text


def rename(findings):
    """Findings whose names would run scripts."""
    findings["attributes"][0]["attribute"] = findings["places"][0]["place"] = NASTY
    return findings | {"verdict": f"The classifier uses {NASTY}."}


def test_names_are_text(audited):
    rewrite(audited, rename)
    page = audit_page(audited)
    assert page.text.count(NASTY) >= 4 and page.of("script") == [{"src": "report.js", "defer": None}]


def test_examples_whose_pictures_are_gone_are_left_out(audited):
    for path in (audited / "Results/smile/audit").rglob("*.png"):
        path.unlink()
    page = audit_page(audited)
    assert "put back" not in [figure.get("alt") for figure in page.of("img")] and "Eyeglasses used" in page.text


DAMAGES = [
    *[(name, None) for name in ("verdict", "attributes", "places", "images")],  # None: as where it is missing
    *[("limits", 3), ("limits", [{"a": 1}]), ("images", "many")],
    *[("attributes", [{"attribute": "Bald"}]), ("attributes", "none"), ("places", [7])],
    ("clusters", [{"place": "top", "n": 3, "examples": [[1]]}]),
]


@pytest.mark.parametrize("name, value", DAMAGES)
def test_a_damaged_audit_is_one_line(audited, name, value):
    rewrite(audited, lambda findings: findings | {name: value})
    line = refused(audited, "smile")
    assert f"audit.yaml is not what audit.py wrote ({name}" in line and "; run audit.py again" in line


def test_a_value_without_its_interval_is_one_line(audited):
    def tear(findings):
        findings["attributes"][0]["effect_low"] = None
        return findings

    rewrite(audited, tear)
    assert "audit.yaml is not what audit.py wrote (effect)" in refused(audited, "smile")


def test_an_audit_that_is_older_than_the_run_says_so(audited):
    assert "earlier state" not in audit_page(audited).text
    write_experiment(audited, [("Smiling", "Eyeglasses", "Mark")] * 13, "smile")
    assert "This audit is of an earlier state of the run" in audit_page(audited).text
