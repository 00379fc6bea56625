"""The project's own files agree with each other."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from scripts import ROOT

CONDA_NAMES = {"torch": "pytorch"}
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
SHELL_SCRIPTS = [*sorted(ROOT.glob("*.sh")), *sorted(ROOT.glob("demo/*.sh")), ROOT / ".ci/run"]


def parser_of(script):
    spec = importlib.util.spec_from_file_location(script.replace("-", "_"), ROOT / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.create_argparser()


def flags_of(script):
    return {option for action in parser_of(script)._actions for option in action.option_strings}


def test_env_yaml_and_requirements_name_the_same_packages_and_bounds():
    lines = (ROOT / "requirements.txt").read_text().split()
    bounds = dict(re.match(r"([\w-]+)(.*)", line).groups() for line in lines)
    pip = {CONDA_NAMES.get(name, name) + bound for name, bound in bounds.items()}
    conda = set(yaml.safe_load((ROOT / "env.yaml").read_text())["dependencies"])
    project = re.search(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text())[1]
    assert conda == pip | {f"python{project}"}


def test_the_readme_names_every_flag_of_main_and_no_other():
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"--[a-z][a-z0-9_]+", text))
    known = set().union(*(flags_of(script) for script in SCRIPTS))
    assert named - known == {"--nproc"}  # torchrun's
    of_main = {flag for flag in flags_of("main.py") if "-" not in flag[2:]} - {"--help", "-h"}
    assert of_main - named == set()


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_has_a_help_text_and_both_spellings(script):
    for action in parser_of(script)._actions:
        assert action.help, action.dest
        long = {option for option in action.option_strings if option.startswith("--")}
        assert {f"--{action.dest}", f"--{action.dest.replace('_', '-')}"} == long


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_root_script_is_short(script):
    assert len((ROOT / script).read_text().splitlines()) <= 150


def test_the_files_that_the_readme_links_to_exist():
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_parse(path):
    assert subprocess.run(["bash", "-n", path], capture_output=True).returncode == 0


def test_the_demos_ship_no_more_than_promised():
    def megabytes(pattern):
        return sum(path.stat().st_size for path in Path(ROOT, "models/demo").glob(pattern)) / 1e6

    assert 0 < megabytes("faces_*.pt") <= 12 and 0 < megabytes("fashion_*.pt") <= 4


def test_the_five_lines_of_the_readme_explain_a_tensor_of_images(monkeypatch):
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    monkeypatch.chdir(ROOT)
    images = torch.zeros(2, 3, 64, 64)
    names = {"images": images}
    exec(block.replace("tau=10", "tau=1"), names)
    assert names["found"].counterfactual.shape == images.shape and names["found"].flipped.shape == (2,)
