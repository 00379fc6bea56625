"""Connecting the ranks of a run, and ending them."""

import json
import os
import socket
import sys
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as dist

from ..dist_util import cpu_count
from ..script.errors import UserError
from .addresses import interface_towards
from .lifeline import Lifeline
from .ranks import find_ranks, rank_in_environment

_TO_MEET = timedelta(minutes=5)  # ranks start at different times, and import for long on a slow disk
# One rank works while the others wait: draws samples, validates, merges. A rank that has died ends them sooner.
_TO_WAIT = timedelta(days=7)
_lifelines = []  # of this process: one once its ranks are connected


def connect(ranks=None, device=None):
    """Connects the ranks -> the same, which can now tell each other things. From then on only the first prints.

    ranks: of find_ranks(), which it calls itself where they are not given.
    device: where the tensors are that they exchange, by NCCL on a GPU, else by Gloo. None: on the CPU.
    Call it early: from then on a rank that dies ends the others. UserError where a rank does not come in time.
    """
    ranks = ranks or find_ranks()
    on_gpu = device is not None and device.type == "cuda"
    alone = device is None and not ranks.several  # then torch chooses
    if not on_gpu and not alone and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cpu_count() // ranks.local_size))
    if not ranks.first:
        sys.stdout = open(os.devnull, "w")
    if not ranks.several:
        return ranks
    address = os.environ["MASTER_ADDR"]
    try:
        store, *_ = next(dist.rendezvous("env://", ranks.rank, ranks.world_size, timeout=_TO_MEET))
    except (dist.DistError, ValueError, OSError) as error:
        raise UserError(
            f"the {ranks.world_size} ranks do not meet at {address}, port {os.environ['MASTER_PORT']} "
            f"({str(error).splitlines()[0][:200]}); set MASTER_ADDR and MASTER_PORT to what all reach"
        ) from None
    ranks = replace(ranks, store=store)
    _lifelines.append(Lifeline(ranks, address))
    store.set_timeout(_TO_WAIT)
    interface = interface_towards(address, int(os.environ["MASTER_PORT"]))
    if interface:  # left to itself, Gloo takes the host name's address, which is often 127.0.1.1
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    if on_gpu:
        refuse_shared_gpus(ranks, torch.cuda.get_device_properties(device).uuid)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=dist.PrefixStore("group", store),
        rank=ranks.rank,
        world_size=ranks.world_size,
        timeout=_TO_WAIT,
        device_id=device if on_gpu else None,
    )
    return ranks


def refuse_shared_gpus(ranks, gpu):
    """UserError where two ranks have the same GPU. gpu: what tells this rank's from others."""
    ranks.store.set(f"gpu/{ranks.rank}", f"{socket.gethostname()} {gpu}")
    gpus = [ranks.store.get(f"gpu/{rank}") for rank in range(ranks.world_size)]
    if len(set(gpus)) < len(gpus):
        raise UserError(f"{len(set(gpus))} GPU(s) for {len(gpus)} ranks; give each rank one, or start fewer ranks")


def let_go():
    """This rank has done its part of the run, and may end before the others."""
    for lifeline in _lifelines:
        lifeline.let_go()
    if dist.is_initialized():
        dist.destroy_process_group()


def under_mpiexec():
    """Whether this is one of several ranks that mpiexec started."""
    return "mpi4py.MPI" in sys.modules and sys.modules["mpi4py.MPI"].COMM_WORLD.size > 1


def joined():
    """Whether connect() has connected this process with other ranks."""
    return bool(_lifelines)


def end_process(code, message):
    """Ends this process with a message on stderr, and the other ranks, which would wait.

    An error that every rank has is printed once, by the first: the others wait a moment, and it ends them.
    """
    if rank_in_environment() > 0:
        time.sleep(3)
    if _lifelines:
        time.sleep(0.3)  # an error may come from the end of another rank
        while _lifelines[0].lost:
            time.sleep(1)  # until that ends this one
    print(message, file=sys.stderr, flush=True)
    _tell_torchrun(message)
    for lifeline in _lifelines:
        lifeline.cut()
    if under_mpiexec():
        time.sleep(0.5)  # mpiexec drops what it has not passed on yet when a rank aborts
        sys.modules["mpi4py.MPI"].COMM_WORLD.Abort(code)
    if _lifelines:
        os._exit(code)  # threads of torch.distributed would abort the process with a message of their own
    sys.exit(code)


def _tell_torchrun(message):
    """Writes the message where torchrun looks for it, who then reports it last."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        report = {"message": message, "extraInfo": {"py_callstack": message, "timestamp": str(int(time.time()))}}
        with suppress(OSError), open(path, "w") as file:
            json.dump({"message": report}, file)
