"""From what SSH and the host's own answers say to the port's errors. All of them reach one host: its zone."""

from __future__ import annotations

from typing import Any

import paramiko

from ..base import AuthFailed, InsufficientCapacity, InvalidConfig, ProviderError, Scope, Unavailable
from .where import Where

IN_USE_SECONDS = 30.0
"""A host in use is asked again so soon at least: who holds it may let go at any moment, and asking costs little."""


class UnknownHostKey(paramiko.SSHException):
    """The host showed a key that nothing vouches for."""

    def __init__(self, key: paramiko.PKey) -> None:
        super().__init__("unknown host key")
        self.key = key


def of_connecting(where: Where, error: Exception) -> ProviderError:
    """What stands between us and a session."""
    if isinstance(error, paramiko.BadHostKeyException):
        return _changed_key(where, error)
    if isinstance(error, UnknownHostKey):
        return _unknown_key(where, error.key)
    said = str(error)
    if isinstance(error, paramiko.PasswordRequiredException):
        return _auth(
            f"{where}: {where.key_file or 'its key'} has a passphrase",
            "add the key to an ssh-agent the daemon can use",
        )
    refused = isinstance(error, paramiko.AuthenticationException) and "timeout" not in said.lower()
    if refused or "No authentication methods" in said:
        hint = f"ssh-copy-id {_key_option(where)}-p {where.port} {where.user}@{where.address}, as the daemon's user"
        return _auth(f"{where} refuses the key: {said}", hint)
    if isinstance(error, FileNotFoundError | PermissionError):
        return _auth(f"{where}: {said}", "correct key_file or known_hosts, or let the daemon's user read it")
    if isinstance(error, paramiko.SSHException) and "key" in said.lower() and "not a valid" in said.lower():
        return _auth(
            f"{where}: {where.key_file}: {said}", "key_file must be a private key in OpenSSH or PEM form"
        )
    hint = f"is the machine on, and does this work: ssh -p {where.port} {where.user}@{where.address} true"
    return Unavailable(
        f"{where} can't be reached: {said or type(error).__name__}", scope=Scope.ZONE, hint=hint
    )


def of_session(where: Where, what: str, *, sent: bool) -> Unavailable:
    """A session that broke off. `sent`: the question may have been heard."""
    return Unavailable(f"{where}: {what}", scope=Scope.ZONE, maybe_created=sent)


def of_refusal(where: Where, reply: dict[str, Any]) -> ProviderError:
    """The host program's no."""
    code, said = str(reply.get("refused")), f"{where}: {reply.get('detail')}"
    if code == "in_use":
        return in_use(where, str(reply.get("detail")))
    if code == "other_parameters":
        return InvalidConfig(said, hint="a retry must send the same offer, user-data, tags and disk")
    if code == "gpus":
        return InvalidConfig(said, scope=Scope.ZONE, hint="correct gpus of this host, or mend its driver")
    if code == "home":
        return InvalidConfig(said, scope=Scope.ZONE, hint="set home to a folder that this user may write")
    return Unavailable(said, scope=Scope.ZONE, hint="see whether its disk is full", maybe_created=True)


def in_use(where: Where, detail: str) -> InsufficientCapacity:
    hint = "a host holds one instance at a time"
    return InsufficientCapacity(f"{where}: {detail}", hint=hint, retry_within_seconds=IN_USE_SECONDS)


def no_python(where: Where) -> InvalidConfig:
    return InvalidConfig(
        f"{where} has no python3 of version 3.9 or newer",
        scope=Scope.ZONE,
        hint="install it: the agent runs on it",
    )


def _auth(said: str, hint: str) -> AuthFailed:
    return AuthFailed(said, scope=Scope.ZONE, hint=hint)


def _key_option(where: Where) -> str:
    return f"-i {where.key_file} " if where.key_file else ""


def _line(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


def _unknown_key(where: Where, key: paramiko.PKey) -> AuthFailed:
    hint = (
        "compare it on the machine with: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; if it is the same, "
        f"write host_key: '{_line(key)}' beside ssh, or add the line '{where.key_name} {_line(key)}' to known_hosts"
    )
    return _auth(f"{where}: its host key {key.fingerprint} is not known", hint)


def _changed_key(where: Where, error: paramiko.BadHostKeyException) -> AuthFailed:
    hint = (
        "either the machine was installed anew or somebody stands in between: find out which on the machine itself "
        f"(ssh-keygen -lf), and only then replace the old key: ssh-keygen -R '{where.key_name}' and ssh-keyscan, or "
        "host_key in fleet.yaml"
    )
    said = f"{where}: its host key has changed: {error.key.fingerprint} instead of {error.expected_key.fingerprint}"
    return _auth(said, hint)
