"""What `pip install .` installs: the scripts as commands, and one import for notebooks, from any folder."""

import re
import shutil
import sys
from importlib.metadata import distributions

import pytest
from main_runs import main_flags
from packaging.requirements import Requirement
from pages import ROOT, SCRIPTS, blocks_of
from scripts import as_argv, call_script, contents, error_of, output_of, run_command

import dime
from dime import PUBLIC
from guided_diffusion.script.errors import UserError

PACKAGES = ("core", "demo", "guided_diffusion", "models")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder that pip installs into, from a copy of the sources, without a network."""
    source, site = (tmp_path_factory.mktemp("package") / name for name in ("source", "site"))
    for folder in ("dime", *PACKAGES):
        generated = shutil.ignore_patterns("__pycache__", "data" if folder == "demo" else "", "output")
        shutil.copytree(ROOT / folder, source / folder, ignore=generated)
    for path in [
        *ROOT.glob("*.py"),
        *ROOT.glob("*.txt"),
        *map(ROOT.joinpath, ("pyproject.toml", "README.md", "LICENSE")),
    ]:
        shutil.copy(path, source)
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    output_of(run_command(sys.executable, "-m", "pip", "install", *offline, "--target", site, source))
    return site


def in_folder(site, folder, *words):
    """Runs a command that finds what is installed, and not this checkout -> (exit code, stdout, stderr)."""
    return run_command(*words, cwd=folder, PYTHONPATH=str(site))


def test_every_file_of_the_packages_and_every_script_is_installed(site):
    sources = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    installed = {name for name in contents(site / "dime/project") if name.endswith(".py")}
    assert installed == sources | set(SCRIPTS)
    beside = {path.name for path in site.iterdir()} - {"bin", "dime"}
    assert len(beside) == 1 and beside.pop().endswith(".dist-info")


def test_it_requires_what_the_requirements_name(site):
    (package,) = distributions(name="dime", path=[str(site)])
    required = [Requirement(text) for text in package.requires]
    for extra, file in ((None, "requirements.txt"), ("hub", "requirements-hub.txt")):
        lines = [Requirement(line) for line in (ROOT / file).read_text().splitlines() if line[0] != "#"]
        ours = {(each.name, each.specifier) for each in required if (each.marker is not None) == bool(extra)}
        assert ours == {(each.name, each.specifier) for each in lines} and lines


def test_every_script_is_a_command(site):
    source = (ROOT / "dime/commands.py").read_text()
    assert set(re.findall(r'"(\w\S*\.py)"', source)) == {*SCRIPTS, "demo/sheet.py"}
    (package,) = distributions(name="dime", path=[str(site)])
    commands = {point.name: point.value for point in package.entry_points}
    assert len(commands) == len(SCRIPTS) + 1
    for name, value in commands.items():
        attribute = name.removeprefix("dime-").replace("-", "_")
        assert value == f"dime.commands:{attribute}" and f"\n{attribute} = " in source
        assert (site / "bin" / name).exists()


@pytest.mark.slow
def test_the_commands_explain_measure_and_draw_as_the_scripts_do(site, toy_files, tmp_path):
    flags = main_flags(toy_files, tmp_path / "out")
    assert call_script("main.py", flags)[0] == 0
    ours = contents(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    paths = f"{site}:{ROOT / 'tests'}"
    output_of(run_command(site / "bin/dime-explain", *as_argv(flags), cwd=tmp_path, PYTHONPATH=paths))
    assert contents(tmp_path / "out") == ours
    line = error_of(in_folder(site, tmp_path, site / "bin/dime-explain", "--data_dir", "nowhere"))
    assert line == f"{site}/bin/dime-explain: error: --data_dir nowhere is neither a folder nor a csv file"
    measure = ("--output_path", "out", "--exp_names", "exp", "--metrics", "FR")
    assert "| FR ↑" in output_of(in_folder(site, tmp_path, site / "bin/dime-compute-metrics", *measure))
    output_of(in_folder(site, tmp_path, site / "bin/dime-sheet", "--output_path", "out", "--picture", "sheet.png"))
    assert (tmp_path / "sheet.png").exists()


@pytest.mark.slow
def test_the_lines_for_a_notebook_run_as_they_stand_in_any_folder(site, tmp_path):
    (block,) = [block for block in blocks_of(ROOT / "docs/explaining.md") if block.language == "python"]
    (tmp_path / "notebook.py").write_text(block.text + "\nprint(found.flipped.tolist(), dime.ROOT)")
    code, out, err = in_folder(site, tmp_path, sys.executable, "notebook.py")
    assert (code, out) == (0, f"[True, True] {site}/dime/project\n"), err
    assert (tmp_path / "smile.png").exists()


def test_the_face_for_notebooks_is_whole_and_imports_nothing_before_it_is_used(site, tmp_path):
    assert set(PUBLIC) <= set(dir(dime))
    assert all(callable(getattr(dime, name)) for name in PUBLIC)
    with pytest.raises(AttributeError, match="'dime' has no attribute 'torch'"):
        dime.torch  # noqa: B018
    program = "import dime, sys; print('torch' in sys.modules)"
    code, out, err = in_folder(site, tmp_path, sys.executable, "-c", program)
    assert (code, out) == (0, "False\n"), err


def test_it_comes_first_where_the_project_was_on_the_path_already(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/__init__.py").write_text("theirs = True")
    program = "import sys, dime, models; print(sys.path[0], sys.path.count(sys.path[0]), hasattr(models, 'theirs'))"
    code, out, err = run_command(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (code, out) == (0, f"{ROOT} 1 False\n"), err


def test_a_ddpm_is_loaded_with_the_flags_of_its_file(toy_files):
    network, diffusion = dime.load_ddpm(toy_files / "ddpm.pt", timestep_respacing="5")
    assert diffusion.num_timesteps == 5 and not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with pytest.raises(UserError, match="--num_channels is 64"):
        dime.load_ddpm(toy_files / "ddpm.pt", num_channels=64)


def test_common_names_are_taken_by_import_dime_alone(site, tmp_path):
    code, _, err = in_folder(site, tmp_path, sys.executable, "-c", "import models")
    assert code == 1 and "No module named 'models'" in err
    (tmp_path / "models").mkdir()
    (tmp_path / "models/__init__.py").write_text("theirs = True")
    program = "import models; assert models.theirs; import dime"
    code, _, err = in_folder(site, tmp_path, sys.executable, "-c", program)
    remedy = f"another models is already imported, from ['{tmp_path}/models']; import dime before it"
    assert code == 1 and remedy in err
    output_of(in_folder(site, tmp_path, sys.executable, "-c", "import dime, models.checkpoints"))
