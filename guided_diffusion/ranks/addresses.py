"""Addresses at which the ranks of several machines reach each other."""

import socket

import psutil

from ..script.errors import UserError

LOOPBACK = "127.0.0.1"
FREE = 0  # the port that stands for any free one
_PATIENCE = 3  # seconds that a machine may take to answer


def own_names():
    """What this machine may be called by others: its names, and the addresses of its interfaces."""
    found = psutil.net_if_addrs().values()
    addresses = [each.address for interface in found for each in interface if each.family == socket.AF_INET]
    far = [address for address in addresses if not address.startswith("127.")]
    return list(dict.fromkeys([socket.getfqdn(), socket.gethostname(), *far]))


def listen(port=FREE):
    """A socket that listens on all interfaces; UserError where the port is taken."""
    try:
        return socket.create_server(("", port), backlog=1024)
    except OSError as error:
        raise UserError(f"MASTER_PORT {port} cannot be listened on ({error.strerror}); set another") from None


def free_port():
    """A port that nobody listens on."""
    with listen() as listener:
        return listener.getsockname()[1]


def reaches(name, port):
    """Whether this process can connect to the port of a machine of that name or address."""
    try:
        socket.create_connection((name, port), timeout=_PATIENCE).close()
    except OSError:
        return False
    return True


def first_resolving(names):
    """The first of the names, of which some may be None, that is an address or has one; UserError for none."""
    named = [name for name in names if name]
    for name in named:
        try:
            socket.getaddrinfo(name, None)
            return name
        except OSError:
            continue
    raise UserError(
        f"the first rank's machine, {' or '.join(named) or 'which srun does not name'}, has no address here; "
        "set MASTER_ADDR to one"
    )


def interface_towards(name, port):
    """The network interface that leads to a machine, such as eth0; None where it is this one, by its loopback."""
    try:
        with socket.create_connection((name, port), timeout=_PATIENCE) as connection:
            own = connection.getsockname()[0].removeprefix("::ffff:")
    except OSError:
        return None
    if own.startswith("127."):
        return None
    interfaces = psutil.net_if_addrs().items()
    return next((title for title, each in interfaces if own in {address.address for address in each}), None)
