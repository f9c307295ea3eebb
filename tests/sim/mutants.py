"""Ten ways to write the protocols wrong, each as a change of the real source, and the invariant that must notice."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import hostler

SOURCE = Path(hostler.__file__).parent
FOLDERS = ("agent_bootstrap", "config", "fleet", "providers", "tracking")


@dataclass(frozen=True)
class Mutant:
    """`edits`: (file, what stands there, what stands there instead). `faults` bring it to light."""

    name: str
    invariants: tuple[int, ...]
    faults: str
    edits: tuple[tuple[str, str, str], ...]
    hours: float = 3.0


MUTANTS = (
    Mutant(
        "retry without the token",
        (1,),
        "lost-replies,visibility-lag",
        (
            (
                "fleet/executor/launch.py",
                '            if intents.spec_hash(request) == row["spec_hash"]\n',
                "",
            ),
            (
                "fleet/executor/launch.py",
                'requests = [intents.request_of(row, self.terms.user_data(row["id"], row["provider"])) for row in due]',
                (
                    "requests = [\n"
                    "            dataclasses.replace(\n"
                    '                intents.request_of(row, self.terms.user_data(row["id"], row["provider"])),\n'
                    "                token=new_instance_id(self.rng),\n"
                    "            )\n"
                    "            for row in due\n"
                    "        ]"
                ),
            ),
            ("fleet/executor/launch.py", "import random\n", "import dataclasses\nimport random\n"),
        ),
    ),
    Mutant(
        "token kept only in memory",
        (1,),
        "lost-replies,visibility-lag,crashes,outages",
        (
            (
                "fleet/executor/launch.py",
                '            if intents.spec_hash(request) == row["spec_hash"]\n',
                "",
            ),
            (
                # The process that made the intent is gone, and with it the token: the next one makes another.
                "fleet/executor/launch.py",
                'requests = [intents.request_of(row, self.terms.user_data(row["id"], row["provider"])) for row in due]',
                (
                    "requests = [\n"
                    "            request\n"
                    '            if row["epoch"] == self.terms.epoch\n'
                    '            else dataclasses.replace(request, token=f"{request.token}-{self.terms.epoch}")\n'
                    "            for row in due\n"
                    '            for data in [self.terms.user_data(row["id"], row["provider"])]\n'
                    "            for request in [intents.request_of(row, data)]\n"
                    "        ]"
                ),
            ),
            ("fleet/executor/launch.py", "import random\n", "import dataclasses\nimport random\n"),
        ),
    ),
    Mutant(
        "intent written after the call",
        (2,),
        "crashes",
        (
            (
                "fleet/executor/launch.py",
                '        written, refused = self.effects.write("intents", work)\n',
                (
                    "        class Chosen(Exception):\n"
                    "            pass\n"
                    "\n"
                    "        def choose(conn: Connection) -> None:\n"
                    "            chosen, _ = work(conn)\n"
                    "            rows = [instances.get(conn, one.instance_id) or {} for one in chosen]\n"
                    "            data = [user_data[row['id'], row['provider']] for row in rows]\n"
                    "            raise Chosen([intents.request_of(*pair) for pair in zip(rows, data, strict=True)])\n"
                    "\n"
                    "        try:\n"
                    "            self.effects.db.write(choose)\n"
                    "        except Chosen as chosen:\n"
                    "            for request in chosen.args[0]:\n"
                    "                cloud = self.providers[request.offer.provider]\n"
                    '                self.effects.call_all("launch", [_Call(cloud, request)])\n'
                    '        written, refused = self.effects.write("intents", work)\n'
                ),
            ),
        ),
    ),
    Mutant(
        "not visible treated as gone",
        (5,),
        "visibility-lag",
        (
            (
                "fleet/observer/clouds.py",
                '    if row["ref"] is None:\n        _never_seen(conn, row, state, moment)\n        return\n',
                (
                    "    if state in (InstanceState.LAUNCHING, InstanceState.BOOTING):\n"
                    '        instances.advance(conn, row["id"], InstanceState.TERMINATED, moment.now)\n'
                    "        return\n"
                ),
            ),
        ),
    ),
    Mutant(
        "reaper that ignores open intents",
        (2,),
        "lost-replies,throttling,credentials,tag-lag",
        (
            (
                "fleet/observer/clouds.py",
                "elif one.intent in waiting and one.intent not in seen:",
                "elif one.state is CloudState.TERMINATED and one.intent in waiting:",
            ),
        ),
        hours=4.0,
    ),
    Mutant(
        "reaper with zero grace under tag lag",
        (2,),
        "lost-replies,tag-lag",
        (
            (
                "fleet/observer/strays.py",
                "is_old = sighting.times >= 2 and now - begun >= grace_seconds",
                "is_old = now - begun >= 0",
            ),
        ),
    ),
    Mutant(
        "lease without generation check",
        (11,),
        "pauses,partitions,one-way",
        (
            (
                "fleet/queue/finish.py",
                "if row is None or row.queue is None or row.generation != generation:",
                "if row is None or row.queue is None:",
            ),
            (
                "fleet/queue/finish.py",
                "if row.state not in HOLDING or row.instance_id != instance_id:",
                "if row.state not in HOLDING:",
            ),
        ),
        hours=4.0,
    ),
    Mutant(
        "attempts counted at completion instead of claim",
        (3,),
        "poison",
        (
            # What nobody reports is never counted: an attempt whose machine dies under it costs the task nothing.
            (
                "fleet/queue/budgets.py",
                "    if ending is Ending.STOPPED:\n",
                (
                    "    if ending in (Ending.LOST, Ending.INFRA, Ending.PREEMPTED):\n"
                    "        return Verdict(TaskState.QUEUED, counts)\n"
                    "    if ending is Ending.STOPPED:\n"
                ),
            ),
        ),
        hours=4.0,
    ),
    Mutant(
        "terminal state written before the cloud confirms",
        (5,),
        "terminate-ignored",
        (
            (
                "fleet/executor/terminate.py",
                '            instances.note(conn, row["id"], **values)\n            _alert',
                (
                    '            instances.note(conn, row["id"], **values)\n'
                    "            if error is None:\n"
                    '                instances.advance(conn, row["id"], InstanceState.TERMINATED, now)\n'
                    "            _alert"
                ),
            ),
        ),
    ),
    Mutant(
        "caps checked after the launch",
        (4,),
        "none",
        (
            (
                "fleet/planning/headroom.py",
                "        limits = self._limits\n        price",
                "        if offer.cpus >= 0:\n            return None\n        limits = self._limits\n        price",
            ),
        ),
    ),
)


def plant(mutant: Mutant, folder: Path) -> Path:
    """A copy of the package with the mutant in it; returns the folder to put on PYTHONPATH."""
    package = folder / "hostler"
    package.mkdir()
    for name in ("__init__.py", "py.typed"):
        shutil.copy(SOURCE / name, package)
    for name in FOLDERS:
        shutil.copytree(SOURCE / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in mutant.edits:
        path = package / file
        text = path.read_text()
        assert text.count(old) == 1, f"{mutant.name}: {file} has changed, write the mutant anew: {old!r}"
        path.write_text(text.replace(old, new))
    return folder
