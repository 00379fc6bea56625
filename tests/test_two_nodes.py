"""Two machines, which are two network namespaces of this one: neither reaches the other's loopback."""

import os
import shutil
import subprocess
import sys

import pytest
from main_runs import main_flags
from scripts import ROOT, SEARCH_PATH, as_argv, contents, environment, run_script

NODES = {f"dime-{os.getpid()}-a": "10.77.41.1", f"dime-{os.getpid()}-b": "10.77.41.2"}
PREFIX = 24
pytestmark = pytest.mark.slow


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def nodes():
    """The names of two namespaces that a cable joins."""
    first, second = NODES
    if not shutil.which("ip") or not ip("netns", "add", first):
        pytest.skip("network namespaces need root")
    try:
        joined = ip("netns", "add", second) and ip(
            *("link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second)
        )
        if not joined:
            pytest.skip("this machine makes no virtual cables")
        for name, address in NODES.items():
            ip("-n", name, "address", "add", f"{address}/{PREFIX}", "dev", "cable")
            for interface in ("lo", "cable"):
                ip("-n", name, "link", "set", interface, "up")
        yield list(NODES)
    finally:
        for name in NODES:
            ip("netns", "delete", name)


def on(node, *words):
    return ["ip", "netns", "exec", node, sys.executable, ROOT / "main.py", *words]


@pytest.fixture(scope="module")
def alone(toy_files, tmp_path_factory):
    output = tmp_path_factory.mktemp("alone") / "out"
    code, _, err = run_script("main.py", main_flags(toy_files, output))
    assert code == 0, err
    return contents(output)


def assert_written(output, alone):
    found = contents(output)
    assert found.keys() == alone.keys()
    assert found["Results/exp/summary.yaml"] == alone["Results/exp/summary.yaml"]


def test_mpiexec_finds_the_address_that_both_nodes_reach(nodes, toy_files, tmp_path, alone):
    if not shutil.which("mpiexec", path=SEARCH_PATH):
        pytest.skip("no mpiexec on this machine")
    words = as_argv(main_flags(toy_files, tmp_path / "out"))
    command = ["mpiexec", "-n", "1", *on(nodes[0], *words), ":", "-n", "1", *on(nodes[1], *words)]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, env=environment(PATH=SEARCH_PATH)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("on 2 ranks") == 1
    assert_written(tmp_path / "out", alone)


def test_srun_falls_back_on_an_address_where_the_nodes_names_have_none(nodes, toy_files, tmp_path, alone):
    words = as_argv(main_flags(toy_files, tmp_path / "out"))
    step = {
        "SLURM_JOB_ID": "5",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
        "SLURM_STEP_NODELIST": "no-such-node-[01-02]",
        "SLURM_LAUNCH_NODE_IPADDR": NODES[nodes[0]],
        "SLURM_LOCALID": "0",
    }
    tasks = [
        subprocess.Popen(
            list(map(str, on(node, *words))),
            env=environment(SLURM_PROCID=str(rank), SLURM_NODEID=str(rank), **step),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, node in enumerate(nodes)
    ]
    outputs = [task.communicate(timeout=300) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], outputs
    assert_written(tmp_path / "out", alone)
