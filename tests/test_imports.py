"""Imports point one way, scripts -> models, core -> guided_diffusion, and nothing happens at import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"guided_diffusion", "core", "models", "demo", "dime"}
MAY_IMPORT = {  # what a package may import of this project
    "guided_diffusion": {"guided_diffusion"},
    "core": {"core", "guided_diffusion"},
    "models": {"models", "guided_diffusion"},
    "demo": PACKAGES - {"dime"},
    "dime": PACKAGES - {"demo"},
}
ROOMS = {  # what a room of core may import of the others
    "report": {"audit", "metrics", "running", "results", "methods", "data"},
    "audit": {"metrics", "running", "results", "methods", "data"},
    "metrics": {"running", "results", "methods", "data"},
    "running": {"results", "methods", "data"},
    "results": {"methods", "data"},
    "methods": set(),
    "data": set(),
}
# What most users of the packages do not need: imported in the functions that use it.
HUB = {"diffusers", "huggingface_hub", "safetensors", "timm", "transformers"}  # requirements-hub.txt
LAZY = {"mpi4py", "tensorboard", "lpips", "pytorch_fid", "matplotlib", "jinja2", "captum", "sklearn"} | HUB
GUARD = "guided_diffusion/script/guard.py"  # the first import of a script, which acts when a script is run
DEFINITIONS = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign

SCRIPTS = {path.name: ast.parse(path.read_text()) for path in sorted(ROOT.glob("*.py"))}
MODULES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text())
    for package in sorted(PACKAGES)
    for path in sorted((ROOT / package).rglob("*.py"))
}


def package_of(name):
    return name.split("/")[0] if "/" in name else ""


def imported(name, nodes):
    """The top-level names that these nodes of the file `name` import; a relative import is of its package."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(package_of(name) if node.level else node.module.split(".")[0])
    return found


def run_at_import(tree):
    """The nodes outside all functions."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def offenders(files, excess):
    """name -> what is too much in that file, where anything is."""
    return {name: found for name, tree in files.items() if (found := excess(name, tree))}


def is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def runs_main(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def test_the_packages_and_scripts_are_all_there():
    assert {package_of(name) for name in MODULES} == PACKAGES
    assert {"main.py", "celeba-train-diffusion.py", "celeba-train-classifier.py"} <= SCRIPTS.keys()


def test_imports_point_one_way():
    ours = PACKAGES | {name.removesuffix(".py") for name in SCRIPTS} | {"tests", "benchmarks"}

    def excess(name, tree):
        return imported(name, ast.walk(tree)) & ours - MAY_IMPORT[package_of(name)]

    assert offenders(MODULES, excess) == {}


def rooms_imported(name, tree):
    """The rooms of core that a file in core/ imports, by relative imports, which core uses throughout."""
    package = Path(name).parent.parts
    targets = {
        (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    }
    return {target[1] for target in targets}


def test_the_rooms_of_core_import_downwards():
    files = {name: tree for name, tree in MODULES.items() if name.startswith("core/") and name.count("/") == 2}
    assert {name.split("/")[1] for name in files} == ROOMS.keys()

    def excess(name, tree):
        room = name.split("/")[1]
        return rooms_imported(name, tree) - ROOMS[room] - {room}

    assert offenders(files, excess) == {}
    assert {name for name in MODULES if name.startswith("core/")} - files.keys() == {"core/__init__.py"}


def test_core_imports_itself_by_relative_imports():
    files = {name: tree for name, tree in MODULES.items() if name.startswith("core/")}

    def excess(name, tree):
        return [
            ast.unparse(node)
            for node in ast.walk(tree)
            if (isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] == "core")
            or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "core" for alias in node.names))
        ]

    assert offenders(files, excess) == {}


def test_networks_need_torch_and_the_standard_library_alone():
    networks = {name: tree for name, tree in MODULES.items() if package_of(name) == "models"}
    known = sys.stdlib_module_names | {"models", "guided_diffusion", "torch", "torchvision", "numpy"}
    assert offenders(networks, lambda name, tree: imported(name, run_at_import(tree)) - known) == {}
    formats = HUB | {"lpips", "pytorch_fid"}  # the libraries that own a format of weights
    assert offenders(networks, lambda name, tree: imported(name, ast.walk(tree)) - known - formats) == {}


def test_what_the_hub_needs_is_imported_by_networks_and_weight_files_alone():
    users = offenders(SCRIPTS | MODULES, lambda name, tree: imported(name, ast.walk(tree)) & HUB)
    users = {name: found for name, found in users.items() if package_of(name) != "models"}
    trainings, digits = "guided_diffusion/training/weight_files.py", "demo/digits_ddpm.py"
    assert users == {trainings: {"safetensors"}, digits: {"diffusers"}}


def test_the_requirements_of_the_hub_are_these():
    lines = (ROOT / "requirements-hub.txt").read_text().splitlines()
    assert {re.match(r"[\w-]+", line)[0] for line in lines if line[0] != "#"} == HUB


def test_networks_need_neither_a_parser_nor_ranks():
    networks = {name: tree for name, tree in MODULES.items() if package_of(name) == "models"}

    def excess(name, tree):
        imports = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
        free = {"gaussian_diffusion", "probe", "respace", "schedules", "script.choices", "script.errors", "unet"}
        ours = {module for module in imports if module.startswith("guided_diffusion")}
        return ours - {f"guided_diffusion.{module}" for module in free}

    assert offenders(networks, excess) == {}


def test_what_few_need_is_imported_where_it_is_used():
    packages = {name: tree for name, tree in MODULES.items() if package_of(name) != "demo"}
    assert offenders(packages, lambda name, tree: imported(name, run_at_import(tree)) & LAZY) == {}


def test_mpi_has_one_user():
    users = offenders(SCRIPTS | MODULES, lambda name, tree: imported(name, ast.walk(tree)) & {"mpi4py"})
    assert users.keys() == {"guided_diffusion/ranks/ranks.py"}


def test_nothing_happens_when_a_file_is_imported():
    def excess(name, tree):
        actions = [node for node in tree.body if not (isinstance(node, DEFINITIONS) or is_docstring(node))]
        return [ast.unparse(node) for node in actions if not runs_main(node)]

    # Making the packages importable is what `import dime` is for.
    acting = offenders(SCRIPTS | MODULES, excess)
    assert acting.keys() == {"dime/__init__.py", GUARD} and acting["dime/__init__.py"] == ["_come_first()"]


def in_python(code):
    """What the code prints in a Python of its own, which is started at the root."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("name", [pytest.param("main", marks=pytest.mark.slow), "guided_diffusion.script.guard"])
def test_importing_a_script_leaves_the_signals_alone(name):
    code = f"from signal import *; import {name}; print(getsignal(SIGTERM).name, getsignal(SIGINT).__name__)"
    assert in_python(code) == ["SIG_DFL", "default_int_handler"]


def test_the_factories_need_no_processes_sockets_or_signals():
    """Nothing but what torch and numpy bring, and of this library neither ranks nor a script's surroundings."""
    code = """import sys, torch, numpy
before = set(sys.modules)
from guided_diffusion.script_util import create_model_and_diffusion
print(*set(sys.modules) - before)"""
    loaded = set(in_python(code))
    assert loaded & {"psutil", "socket", "signal", "multiprocessing", "mpi4py", "filelock", "blobfile"} == set()
    ours = {name for name in loaded if name.startswith("guided_diffusion.")}
    assert "guided_diffusion.unet" in ours and not [name for name in ours if ".ranks" in name]
    assert {name for name in ours if ".script." in name} == {
        "guided_diffusion.script.errors",
        "guided_diffusion.script.flags",
    }


def test_a_script_is_a_docstring_the_guard_a_parser_and_a_main_that_is_run():
    for name, tree in SCRIPTS.items():
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert is_docstring(tree.body[0]) and runs_main(tree.body[-1]), name
        assert ast.unparse(tree.body[1]) == "import guided_diffusion.script.guard", name
        assert {"create_argparser", "main"} <= functions, name
