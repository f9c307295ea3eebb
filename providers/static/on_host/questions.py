"""The questions a daemon asks of a host, each answered by one JSON object."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from typing import Any

from .life import described, settle
from .machine import gpus, memory_bytes, service
from .places import Refused, locked, read, root_of, write
from .starting import start, write_down

MARK = "hostler-reply: "
"""Begins the line of the answer: a login shell may print what it likes around it."""
LISTED_SECONDS = 900.0
"""How long an ended instance is still listed, so that every reader sees it end."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What `request` comes to: {"verb": facts | list | launch | terminate | reach, ...} -> reply or refusal."""
    verbs = {"facts": facts, "list": list_ours, "launch": launch, "terminate": terminate, "reach": reach}
    try:
        return verbs[request["verb"]](request)
    except Refused as error:
        return {"refused": error.code, "detail": str(error)}
    except OSError as error:
        return {"refused": "disk", "detail": str(error)}


def main(request: dict[str, Any]) -> int:
    sys.stdout.write("\n" + MARK + json.dumps(answer(request)) + "\n")
    sys.stdout.flush()
    return 0


def list_ours(request: dict[str, Any]) -> dict[str, Any]:
    """Instances of `server`: the one that is here, and those that ended a short while ago."""
    root = root_of(request)
    with locked(root):
        state = settle(root)
        record = read(root / "instance" / "record.json")
        found = [described(record, state)] if record else []
        ended = [read(path) for path in (root / "ended").glob("*.json")]
    now = time.time()
    current = record.get("token")
    found += [
        described(one, "terminated")
        for one in ended
        if one.get("token") != current and now - float(one.get("ended_at", 0)) < LISTED_SECONDS
    ]
    return {"instances": [one for one in found if one["server"] == request["server"]]}


def launch(request: dict[str, Any]) -> dict[str, Any]:
    """The instance of `token`: the one that is here, was here, or is made now."""
    root = root_of(request)
    token = request["token"]
    with locked(root):
        state = settle(root)
        record = read(root / "instance" / "record.json")
        ended = read(root / "ended" / (token + ".json"))
        if record.get("token") != token and ended:
            return {"instance": described(same(ended, request), "terminated")}
        if record and (record.get("token"), record.get("server")) != (token, request["server"]):
            whose = "this server's" if record.get("server") == request["server"] else "another server's"
            raise Refused("in_use", "it holds {} instance {}".format(whose, record.get("token")))
        if record:
            same(record, request)
        else:
            record = write_down(root, request)
            state = "pending"
        if state == "pending":
            state = start(root, record)
        return {"instance": described(record, state)}


def same(record: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    if (record.get("server"), record.get("digest")) != (request["server"], request["digest"]):
        raise Refused(
            "other_parameters", "token {} was used before with other parameters".format(request["token"])
        )
    return record


def terminate(request: dict[str, Any]) -> dict[str, Any]:
    """Have the keeper end it: SIGTERM now, SIGKILL after `grace_seconds`. {"known": False} for a token never seen."""
    root = root_of(request)
    with locked(root):
        state = settle(root)
        record = read(root / "instance" / "record.json")
        if (record.get("token"), record.get("server")) != (request["token"], request["server"]):
            ended = read(root / "ended" / (request["token"] + ".json"))
            return {"known": ended.get("server") == request["server"], "state": "terminated"}
        if state != "stopping":
            write(
                root / "instance" / "doom.json",
                {"grace_seconds": request["grace_seconds"], "at": time.time()},
            )
            state = settle(root)
        return {"known": True, "state": state or "terminated"}


def facts(request: dict[str, Any]) -> dict[str, Any]:
    """What kind of machine this is, and whether an instance could be started on it."""
    root = root_of(request)
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": memory_bytes(),
        "disk_free_bytes": shutil.disk_usage(str(root)).free,
        "gpus": gpus(),
        "python": platform.python_version(),
        "time": time.time(),
        "home": str(root),
        "service": service(),
        "node": platform.node(),
    }


def reach(request: dict[str, Any]) -> dict[str, Any]:
    """Whether an agent here would reach the daemon. Its certificate is the agent's to judge, by the CA it is given."""
    import ssl  # seldom asked, slow to import: the other questions come at every tick
    import urllib.error
    import urllib.request

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    try:
        with urllib.request.build_opener(*handlers).open(request["url"], timeout=request["seconds"]) as reply:
            return {"reached": reply.status == 200, "detail": f"answered {reply.status}"}
    except urllib.error.HTTPError as error:
        return {"reached": False, "detail": f"answered {error.code}"}
    except (OSError, ValueError) as error:
        return {"reached": False, "detail": str(getattr(error, "reason", error))}
