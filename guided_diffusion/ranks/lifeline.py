"""The ranks end together: where one dies, the others notice, and end too instead of waiting for it.

Each rank holds a connection to the first one. The system closes it when a process ends, however that ends. torchrun
and mpiexec end the others by themselves, too; srun does so on request alone.
"""

import os
import secrets
import socket
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Client, Listener, wait

_DONE, _LOST = "done", "lost"
# Seconds until a machine that answers no more, as without power, is asked, then between questions; and how many.
_KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


class Lifeline:
    """This rank's connection to the first one, or the first one's to all others, and a thread that watches."""

    def __init__(self, ranks, address):
        """address: of the first rank's machine. Returns when all ranks hold one."""
        self.ranks = ranks
        self.finished = self.lost = False  # whether this rank has done its part; whether another has died
        if ranks.first:
            key = secrets.token_bytes(16)
            with Listener(("", 0), backlog=ranks.world_size, authkey=key) as listener:
                ranks.store.set("lifeline", f"{listener.address[1]} {key.hex()}")
                accepted = [listener.accept() for _ in range(ranks.world_size - 1)]
            self.others = {connection: connection.recv() for connection in accepted}
        else:
            port, key = ranks.store.get("lifeline").decode().split()
            connection = Client((address, int(port)), authkey=bytes.fromhex(key))
            connection.send(ranks.rank)
            self.others = {connection: 0}
        for connection in self.others:
            _keep_alive(connection)
        threading.Thread(target=self._watch, daemon=True).start()

    def let_go(self):
        """Tells the others that this rank has done its part, so that its end is none of theirs."""
        self.finished = True
        self._tell(_DONE)

    def cut(self):
        """Tells the others that this rank ends, and has said why."""
        self.finished = True
        self._tell(_LOST)

    def _tell(self, word):
        for connection in self.others:
            with suppress(OSError):  # it has ended already
                connection.send(word)

    def _watch(self):
        watched = dict(self.others)
        while watched:
            for connection in wait(list(watched)):
                try:
                    said = connection.recv()
                except (OSError, EOFError):
                    said = None
                rank = watched.pop(connection)
                if said != _DONE and not self.finished:
                    self._end(rank, told=said == _LOST)

    def _end(self, lost, told):
        """Ends this process, whatever its other threads do; the first rank tells all others before."""
        self.lost = True
        if self.ranks.first:
            self._tell(_LOST)
        if not told and self.ranks.rank < 2:
            line = f"rank {lost} of {self.ranks.world_size} has ended too early, and so do the others"
            print(f"{line}; what it printed, or its launcher, says why", file=sys.stderr, flush=True)
        if "TORCHELASTIC_RUN_ID" in os.environ or "mpi4py.MPI" in sys.modules:
            time.sleep(3)  # the launcher ends this process itself, and then reports the one alone that failed
        os._exit(1)


def _keep_alive(connection):
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # not on every system
                same.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
