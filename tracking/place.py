"""Where a run records to: the folder an agent gave us, or one of our own, with or without a server behind it."""

from __future__ import annotations

import json
import os
import sys
import uuid
from typing import Any, Dict, NamedTuple, Optional

from .errors import Refused

MODES = ("auto", "online", "offline", "disabled")
RUNS_FOLDER = os.path.join(".hostler", "runs")
RUN_FILE = "run.json"
FINISH_FILE = "finish.json"
"""How the run ended; written when it does, so that a later `sync` can tell."""


class Server(NamedTuple):
    """How to reach the server, and with which secret."""

    url: str
    token: str
    ca_file: Optional[str]


class Place(NamedTuple):
    """A run's folder and who carries it to the server: 'agent', 'online' (we do), 'offline' (nobody yet)."""

    kind: str
    folder: str
    uid: str
    task_id: Optional[int]
    generation: int
    server: Optional[Server]


def find(mode: str, resume: str) -> Place:
    """Choose the place for a new run of this process. Raises Refused for a mode that doesn't exist or can't be."""
    if mode not in MODES:
        raise Refused(f"mode {mode!r} is not one of {', '.join(MODES)}")
    if mode == "auto" and os.environ.get("HOSTLER_MODE"):
        return find(os.environ["HOSTLER_MODE"], resume)
    if mode != "offline" and os.environ.get("HOSTLER_TASK_ID") and os.environ.get("HOSTLER_OUT"):
        return _of_agent()
    server = None if mode == "offline" else find_server()
    if mode == "online" and server is None:
        raise Refused(
            "mode 'online' needs HOSTLER_URL and HOSTLER_TOKEN, or a daemon started by `hostler up`"
        )
    uid = resume if resume not in ("auto", "never") else uuid.uuid4().hex
    if not uid.replace("-", "").replace("_", "").isalnum() or len(uid) > 64:
        raise Refused(f"resume={uid!r} is no run's uid: letters, digits, '-' and '_', at most 64")
    folder = os.path.join(os.environ.get("HOSTLER_DIR", RUNS_FOLDER), uid)
    return Place("online" if server else "offline", os.path.abspath(folder), uid, None, 1, server)


def find_server() -> Optional[Server]:
    """The server by environment, else by the file that `hostler up` leaves for its user; None when neither is there."""
    url, ca_file = os.environ.get("HOSTLER_URL"), os.environ.get("HOSTLER_CA_FILE") or None
    token_file = os.environ.get("HOSTLER_TOKEN_FILE")
    token = os.environ.get("HOSTLER_TOKEN") or (_read(token_file) if token_file else "")
    if url and token:
        return Server(url, token, ca_file)
    known = _client_file()
    if not known:
        return None
    token = token or _read(str(known.get("token_file", "")))
    return Server(url or str(known["url"]), token, ca_file or known.get("ca_file")) if token else None


def write_run_file(place: Place, project: str, name: str, tags: Any) -> None:
    """Say what the folder holds, so that `hostler sync` can carry it later. The first one stays."""
    path = os.path.join(place.folder, RUN_FILE)
    if os.path.exists(path):
        return
    os.makedirs(place.folder, exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump({"uid": place.uid, "project": project, "name": name, "tags": list(tags)}, file)
    os.replace(path + ".new", path)


def program_name() -> str:
    """A run's name where the user gave none: the program's."""
    program = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
    return program if program not in ("", "-c", "-m", "__main__") else "run"


def _of_agent() -> Place:
    environ = os.environ
    server = None
    if environ.get("HOSTLER_URL") and environ.get("HOSTLER_TOKEN_FILE"):
        token = _read(environ["HOSTLER_TOKEN_FILE"])
        server = Server(environ["HOSTLER_URL"], token, environ.get("HOSTLER_CA_FILE") or None)
    task_id = int(environ["HOSTLER_TASK_ID"])
    generation = int(environ.get("HOSTLER_GENERATION", "1"))
    return Place("agent", environ["HOSTLER_OUT"], f"task-{task_id}", task_id, generation, server)


def _client_file() -> Dict[str, Any]:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    path = os.environ.get("HOSTLER_CLIENT_FILE") or os.path.join(base, "hostler", "client.json")
    try:
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and known.get("url") else {}


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""
