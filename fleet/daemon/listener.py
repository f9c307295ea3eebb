"""The listening socket, bound before anything else is started."""

from __future__ import annotations

import errno
import socket

from .failures import StartError

BACKLOG = 2048
"""Agents of a large fleet come back together after an outage."""


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 lets the system choose. Raises StartError.

    Made with IPPROTO_TCP by name: asyncio sets TCP_NODELAY only on sockets whose protocol says so, and without
    it each reply on a kept-alive connection waits some 40 ms for an acknowledgement.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(_explain(error, host, port)) from error
    listener.setblocking(False)
    return listener


def _explain(error: OSError, host: str, port: int) -> str:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program; set daemon.listen in fleet.yaml to a free port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"no interface of this machine has the address {host}; correct daemon.listen in fleet.yaml"
    if error.errno == errno.EACCES:
        return f"this user may not listen on {where}; set daemon.listen in fleet.yaml to a port above 1023"
    return f"can't listen on {where}: {error.strerror or error}; correct daemon.listen in fleet.yaml"


def printed_address(listener: socket.socket) -> tuple[str, int]:
    """Host and port as bound, the host bracketed where it is IPv6."""
    host, port = listener.getsockname()[:2]
    return (f"[{host}]" if ":" in host else host), port
