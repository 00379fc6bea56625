"""Connecting the ranks of a run, and ending them.

That a rank has died is its launcher's to notice: torchrun, mpiexec and `srun --kill-on-bad-exit` end the others.
"""

import json
import os
import stat
import sys
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as dist

from ..dist_util import cpu_count
from ..script.errors import UserError, first_sentence
from .ranks import find_ranks, mpi_world, rank_in_environment

_TO_MEET = timedelta(minutes=5)  # ranks start at different times, and import for long on a slow disk
_TO_WAIT = timedelta(days=7)  # one rank works while the others wait: draws samples, validates, merges
_TO_PRINT = timedelta(seconds=10)
_stores = []  # of this process: the one in which it has met the other ranks, or None where they did not meet


def connect(ranks=None, device=None):
    """Connects the ranks -> the same, which can now tell each other things. From then on only the first prints.

    ranks: of find_ranks(), which it calls itself where they are not given.
    device: where the tensors are that they exchange, by NCCL on a GPU, else by Gloo. None: on the CPU.
    UserError where a rank does not come in time.
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
    store = _meet(ranks)
    store.set_timeout(_TO_WAIT)
    ranks = replace(ranks, store=store)
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


def _meet(ranks):
    """The store of torch.distributed that all ranks come to; None where they failed to meet before."""
    if _stores:
        return _stores[0]
    _stores.append(None)
    try:
        if mpi_world():
            _stores[0] = _store_of_mpi(ranks)
        else:
            _stores[0] = next(dist.rendezvous("env://", ranks.rank, ranks.world_size, timeout=_TO_MEET))[0]
    except (dist.DistError, ValueError, OSError) as error:
        raise UserError(
            f"the {ranks.world_size} ranks do not meet at {os.environ['MASTER_ADDR']}, port "
            f"{os.environ.get('MASTER_PORT', 'chosen by the first')} ({first_sentence(error)}); set "
            "MASTER_ADDR and MASTER_PORT to what all reach"
        ) from None
    return _stores[0]


def _store_of_mpi(ranks):
    """At MASTER_PORT, or at any free port, which the first rank tells the others over MPI."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ.get("MASTER_PORT", 0))
    if not ranks.first:
        return dist.TCPStore(address, mpi_world().bcast(None), timeout=_TO_MEET)
    store = dist.TCPStore(address, port, is_master=True, wait_for_workers=False, timeout=_TO_MEET)
    mpi_world().bcast(store.port)
    return store


def refuse_shared_gpus(ranks, gpu):
    """UserError where two ranks have the same GPU. gpu: what tells this rank's from others."""
    ranks.store.set(f"gpu/{ranks.rank}", str(gpu))
    gpus = [ranks.store.get(f"gpu/{rank}") for rank in range(ranks.world_size)]
    if len(set(gpus)) < len(gpus):
        raise UserError(f"{len(set(gpus))} GPU(s) for {len(gpus)} ranks; give each rank one, or start fewer ranks")


def let_go():
    """This rank has done its part of the run. Returns when all have, as the first one serves the store."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def end_process(code, message):
    """Ends this process, and under mpiexec all ranks. Of several ranks the first one to end prints its message."""
    sys.stdout.flush()
    _print_once(message)
    _tell_torchrun(message)
    if mpi_world():
        _wait_until_read(sys.stderr)
        mpi_world().Abort(code)
    if dist.is_initialized():
        os._exit(code)  # threads of torch.distributed would abort the process with a message of their own
    sys.exit(code)


def _print_once(message):
    """Prints it on the first rank to end. The others wait: under mpiexec their end would be its end."""
    store, first = None, True
    try:
        ranks = find_ranks()
        store = _meet(ranks) if ranks.several else None
        first = store is None or store.add("ended", 1) == 1
        if not first:
            store.wait(["printed"], _TO_PRINT)
    except UserError:  # of find_ranks(), which under mpiexec and srun every rank has
        first = rank_in_environment() == 0
    except dist.DistError:  # the first rank has ended, and its store with it
        first = False
    if first:
        print(message, file=sys.stderr, flush=True)
    if first and store is not None:
        store.set("printed", "")


def _wait_until_read(stream):
    """Returns when mpiexec has read what a rank wrote into its pipe: at an Abort it drops the rest."""
    until = time.monotonic() + _TO_PRINT.total_seconds()
    with suppress(ImportError, OSError):  # of Windows, and of what is no pipe
        from fcntl import ioctl
        from termios import FIONREAD

        is_pipe = stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
        while is_pipe and any(ioctl(stream.fileno(), FIONREAD, bytes(4))) and time.monotonic() < until:
            time.sleep(0.01)


def _tell_torchrun(message):
    """Writes the message where torchrun looks for it, whose long report then ends with it."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        extra = {"py_callstack": message, "timestamp": str(int(time.time()))}
        with open(path, "w") as file:
            json.dump({"message": {"message": message, "extraInfo": extra}}, file)
