"""One SSH connection to a host, kept open and made anew when it broke; a question is one session on it."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import paramiko
from paramiko.hostkeys import HostKeyEntry

from . import errors, program
from .on_host.questions import MARK
from .where import Where

CONNECT_SECONDS = 6.0
ANSWER_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 15
REPLY_BYTES_MAX = 4 * 1024**2
READ_BYTES = 64 * 1024
SAID_CHARACTERS_MAX = 300
LOG_CHANNEL = "hostler.ssh"

# Its traceback of every refused connection would stand in the daemon's log beside our own one-line error.
logging.getLogger(LOG_CHANNEL).setLevel(logging.CRITICAL)


class _Refuse(paramiko.MissingHostKeyPolicy):
    def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> None:
        raise errors.UnknownHostKey(key)


class Connection:
    """Thread-safe. Host keys are always verified."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._turn = threading.Lock()
        self._client: paramiko.SSHClient | None = None

    def ask(self, request: Mapping[str, Any], seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """The host program's reply. Raises AuthFailed, InvalidConfig, Unavailable (`maybe_created` if it was sent)."""
        with self._turn:
            channel = self._session()
            try:
                status, out, said = _run(channel, program.asking(request), time.monotonic() + seconds)
            except (paramiko.SSHException, OSError, EOFError) as error:
                self._drop()
                what = (
                    f"no answer within {seconds:g} s"
                    if isinstance(error, TimeoutError)
                    else f"broke off: {error}"
                )
                raise errors.of_session(self._where, what, sent=True) from error
            finally:
                channel.close()
        return self._reply(status, out, said)

    def close(self) -> None:
        with self._turn:
            self._drop()

    def _reply(self, status: int, out: str, said: str) -> dict[str, Any]:
        lines = [line for line in out.splitlines() if line.startswith(MARK)]
        if not lines:
            if status == program.NO_PYTHON_CODE and program.NO_PYTHON in said:
                raise errors.no_python(self._where)
            told = (said or out).strip()[-SAID_CHARACTERS_MAX:]
            raise errors.of_session(self._where, f"gave exit code {status} and no answer: {told}", sent=True)
        try:
            reply: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
        except ValueError as error:
            raise errors.of_session(self._where, "its answer was cut off", sent=True) from error
        if "refused" in reply:
            raise errors.of_refusal(self._where, reply)
        return reply

    def _session(self) -> paramiko.Channel:
        """A session on the connection that is open, or on a new one if that one has died. Nothing is sent yet."""
        for client in filter(None, [self._client]):
            transport = client.get_transport()
            try:
                if transport is not None and transport.is_active():
                    return transport.open_session(timeout=CONNECT_SECONDS)
            except (paramiko.SSHException, OSError, EOFError):
                pass
            self._drop()
        try:
            self._client = self._connect()
            transport = self._client.get_transport()
            if transport is None:
                raise paramiko.SSHException("the connection was closed at once")
            transport.set_keepalive(KEEP_ALIVE_SECONDS)
            return transport.open_session(timeout=CONNECT_SECONDS)
        except (paramiko.SSHException, OSError, EOFError, ValueError) as error:
            self._drop()
            raise errors.of_connecting(self._where, error) from error

    def _connect(self) -> paramiko.SSHClient:
        where = self._where
        client = paramiko.SSHClient()
        client.set_log_channel(LOG_CHANNEL)
        client.set_missing_host_key_policy(_Refuse())
        _vouch(client, where)
        try:
            client.connect(
                where.address,
                where.port,
                where.user,
                key_filename=where.key_file or None,
                allow_agent=not where.key_file,
                look_for_keys=not where.key_file,
                timeout=CONNECT_SECONDS,
                banner_timeout=CONNECT_SECONDS,
                auth_timeout=CONNECT_SECONDS,
            )
        except BaseException:
            client.close()
            raise
        return client

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _vouch(client: paramiko.SSHClient, where: Where) -> None:
    """Load the keys that vouch for the host: the one in fleet.yaml, the file named there, or the user's own."""
    if where.host_key:
        entry = HostKeyEntry.from_line(f"{where.key_name} {where.host_key}")
        if entry is None or entry.key is None:
            raise ValueError("host_key is not a public key")
        client.get_host_keys().add(where.key_name, entry.key.get_name(), entry.key)
    elif where.known_hosts:
        client.load_host_keys(where.known_hosts)
    else:
        client.load_system_host_keys()


def _run(channel: paramiko.Channel, text: bytes, deadline: float) -> tuple[int, str, str]:
    """(exit status, what it printed, what it complained of)."""
    channel.settimeout(_left(deadline))
    channel.exec_command(program.COMMAND)
    channel.sendall(text)
    channel.shutdown_write()
    out = _read(channel, deadline, channel.recv)
    said = _read(channel, deadline, channel.recv_stderr)
    if not channel.status_event.wait(_left(deadline)):
        raise TimeoutError
    return channel.recv_exit_status(), out, said


def _read(channel: paramiko.Channel, deadline: float, receive: Any) -> str:
    taken = bytearray()
    while len(taken) < REPLY_BYTES_MAX:
        channel.settimeout(_left(deadline))
        chunk = receive(READ_BYTES)
        if not chunk:
            break
        taken += chunk
    return taken.decode(errors="replace")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
