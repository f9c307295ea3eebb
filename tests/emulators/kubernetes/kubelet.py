"""A kubelet without containers: runs each pod's command as a process group here, and ends it as a kubelet does.

A pod's mounts are folders of its own; where its command and environment name a mount, they get the folder's path.
Deletion is SIGTERM to the first process, the grace period, then SIGKILL to everything of the pod.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .cluster import NODE, Cluster, Object, epoch, stamp

LOOK_SECONDS = 0.05
PASSED_ON = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")


class Kubelet:
    """Context manager: while it lasts, the pods of `cluster` run below `folder`."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.broken: list[BaseException] = []

    def __enter__(self) -> Self:
        self.cluster.runs_pods = False
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for name, process in self._running.items():
            self._kill_all(name)
            process.wait()

    def home(self, name: str) -> Path:
        return self.folder / name

    def console(self, name: str) -> str:
        return (self.home(name) / "console").read_text()

    def processes(self, name: str) -> list[int]:
        """Everything that runs in the pod, by the folder that it inherited or works in."""
        mark = f"{self.home(name)}/".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
        return found

    def _work(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                with self.cluster.lock:
                    for pod in [one for (kind, _, _), one in self.cluster.objects.items() if kind == "pods"]:
                        self._look_after(pod)
            except BaseException as error:
                self.broken.append(error)
                raise

    def _look_after(self, pod: Object) -> None:
        name, metadata = pod["metadata"]["name"], pod["metadata"]
        process = self._running.get(name)
        if process is None:
            if "deletionTimestamp" in metadata:
                self.cluster.remove(name)
            elif pod["status"]["phase"] == "Pending" and self.cluster.can_mount(pod):
                self._running[name] = self._start(pod)
            return
        code = process.poll()
        if code is not None:
            self._ended(pod, code)
        elif "deletionTimestamp" in metadata:
            self._end(pod, process)

    def _start(self, pod: Object) -> subprocess.Popen[bytes]:
        container = pod["spec"]["containers"][0]
        places = self._mount(pod, container)
        environment = {one["name"]: _placed(one["value"], places) for one in container["env"]}
        kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        home = self.home(pod["metadata"]["name"])
        with (home / "console").open("ab") as console:
            started = subprocess.Popen(
                [_placed(word, places) for word in container["command"]],
                cwd=home,
                env={**kept, "PATH": path, **environment},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        pod["spec"]["nodeName"] = NODE
        pod["status"].update(phase="Running", podIP="127.0.0.1", startTime=stamp(self.cluster.clock()))
        return started

    def _mount(self, pod: Object, container: Object) -> dict[str, Path]:
        """Folder by mount path; secrets' files are in theirs."""
        home = self.home(pod["metadata"]["name"])
        volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
        places: dict[str, Path] = {}
        for mount in container["volumeMounts"]:
            folder = home / "volumes" / mount["name"]
            folder.mkdir(parents=True)
            places[mount["mountPath"]] = folder
            source = volumes[mount["name"]].get("secret")
            if source:
                self._write_secret(pod, source, folder)
        return places

    def _write_secret(self, pod: Object, source: dict[str, Any], folder: Path) -> None:
        key = ("secrets", pod["metadata"]["namespace"], source["secretName"])
        data = self.cluster.objects[key]["data"]
        for item in source["items"]:
            (folder / item["path"]).write_bytes(base64.b64decode(data[item["key"]]))

    def _end(self, pod: Object, process: subprocess.Popen[bytes]) -> None:
        metadata = pod["metadata"]
        told = self.home(metadata["name"]) / "told-to-end"
        if not told.exists():
            told.touch()
            process.send_signal(signal.SIGTERM)
        elif self.cluster.clock() > epoch(metadata["deletionTimestamp"]):
            self._kill_all(metadata["name"])

    def _ended(self, pod: Object, code: int) -> None:
        """The first process is gone, and with it the container: nothing in it runs on."""
        name = pod["metadata"]["name"]
        self._kill_all(name)
        if "deletionTimestamp" in pod["metadata"]:
            self.cluster.remove(name)
            del self._running[name]
            shutil.rmtree(self.home(name) / "volumes", ignore_errors=True)
        elif pod["status"]["phase"] == "Running":
            self.cluster.end(
                name, "Failed" if code else "Succeeded", exit_code=code if code >= 0 else 128 - code
            )

    def _kill_all(self, name: str) -> None:
        for _ in range(100):
            left = self.processes(name)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process = self._running.get(name)
            if process is not None:
                process.poll()
            if not left:
                return
            time.sleep(0.02)


def _placed(text: str, places: dict[str, Path]) -> str:
    for mount, folder in places.items():
        if text == mount or text.startswith(f"{mount}/"):
            return f"{folder}{text.removeprefix(mount)}"
    return text
