"""The project's own files agree with each other."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from pages import SCRIPTS
from scripts import ROOT

CONDA_NAMES = {"torch": "pytorch"}
SHELL_SCRIPTS = [*sorted(ROOT.glob("*.sh")), *sorted(ROOT.glob("demo/*.sh")), ROOT / ".ci/run"]


def test_env_yaml_and_requirements_name_the_same_packages_and_bounds():
    lines = (ROOT / "requirements.txt").read_text().split()
    bounds = dict(re.match(r"([\w-]+)(.*)", line).groups() for line in lines)
    pip = {CONDA_NAMES.get(name, name) + bound for name, bound in bounds.items()}
    conda = set(yaml.safe_load((ROOT / "env.yaml").read_text())["dependencies"])
    project = re.search(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text())[1]
    assert conda == pip | {f"python{project}"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_root_script_is_short(script):
    assert len((ROOT / script).read_text().splitlines()) <= 150


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_parse(path):
    assert subprocess.run(["bash", "-n", path], capture_output=True).returncode == 0


def test_the_demos_ship_no_more_than_promised():
    sizes = {path.name: path.stat().st_size for path in Path(ROOT, "models/demo").glob("*.pt")}
    assert len(sizes) == 6 and sum(sizes.values()) <= 20e6
