"""What the SDK writes, as its user sees it: each test is a program of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hostler.tracking import journal


def run(
    tmp_path: Path, program: str, environ: Mapping[str, str] | None = None, *, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a user's program in an empty folder, away from any server of this machine."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HOSTLER_")}
    clean |= {"HOSTLER_CLIENT_FILE": str(tmp_path / "none.json"), **(environ or {})}
    done = subprocess.run(
        [sys.executable, "-c", "import hostler\n" + program],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    return done


def records(tmp_path: Path, kind: str) -> list[list[object]]:
    found: list[list[object]] = []
    for path in sorted(tmp_path.rglob("*.jnl")):
        whole, broken = journal.parse(path.read_bytes())
        assert broken == 0
        found += [record for record in whole if record[0] == kind]
    return found


def agent_environment(tmp_path: Path) -> dict[str, str]:
    out = tmp_path / "out"
    out.mkdir()
    return {
        "HOSTLER_TASK_ID": "7",
        "HOSTLER_ATTEMPT": "2",
        "HOSTLER_GENERATION": "3",
        "HOSTLER_OUT": str(out),
    }


def test_one_line_records_parameters_and_metrics(tmp_path: Path) -> None:
    run(
        tmp_path,
        "run = hostler.init('p', config={'lr': 0.1, 'net': {'depth': 3}})\nhostler.log({'loss': 0.5}, 4)",
    )
    assert [one[1] for one in records(tmp_path, "p")] == [{"lr": 0.1}, {"net.depth": 3}]
    metric = records(tmp_path, "m")[0]
    assert (metric[1], metric[3]) == (4, {"loss": 0.5})
    (described,) = tmp_path.rglob("run.json")
    assert json.loads(described.read_text())["project"] == "p"


def test_what_is_not_finite_is_kept_and_what_is_no_number_is_warned_of_once(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "hostler.init()\nfor _ in range(3):\n"
        "    hostler.log({'a': float('nan'), 'b': float('-inf'), 'c': 'words', 'd': True, 'e': 10**30})",
    )
    assert records(tmp_path, "m")[0][3] == {"a": "nan", "b": "-inf", "d": 1, "e": 1e30}
    assert done.stderr.count("'c' is a str") == 1


def test_numpy_scalars_are_numbers(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    run(tmp_path, "import numpy as np\nhostler.init()\nhostler.log({'a': np.float32(0.5), 'b': np.array(2)})")
    assert records(tmp_path, "m")[0][3] == {"a": 0.5, "b": 2}


def test_steps_count_by_themselves_when_not_given(tmp_path: Path) -> None:
    run(tmp_path, "hostler.init()\nfor s in (None, None, 10, None): hostler.log({'a': 1}, s)")
    assert [one[1] for one in records(tmp_path, "m")] == [0, 1, 10, 11]


def test_init_twice_is_the_same_run(tmp_path: Path) -> None:
    run(tmp_path, "a = hostler.init('p')\nb = hostler.init(config={'x': 1})\nassert a is b")
    assert len(list(tmp_path.rglob("run.json"))) == 1


def test_logging_without_init_says_what_to_do(tmp_path: Path) -> None:
    assert "call hostler.init() first" in run(tmp_path, "hostler.log({'a': 1})", code=1).stderr


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("hostler.init(mode='onlin')", "not one of auto, online, offline, disabled"),
        ("hostler.init(mode='online')", "needs HOSTLER_URL"),
        ("hostler.init(resume='../../etc')", "no run's uid"),
        ("hostler.init(capture='everything')", "not one of default, none"),
        ("hostler.init(config=3)", "must be a mapping"),
        ("hostler.init(); hostler.checkpoint('nowhere.pt')", "does not exist"),
        ("hostler.init(); hostler.log_artifact(object())", "need the path"),
        ("hostler.init(); hostler.log_artifact({1: object()})", "not JSON"),
        (
            "hostler.init(); hostler.checkpoint(__file__ if '__file__' in dir() else '.', keep=0)",
            "at least 1",
        ),
    ],
)
def test_a_wrong_argument_is_refused_with_what_to_do(tmp_path: Path, call: str, words: str) -> None:
    done = run(tmp_path, f"try:\n    {call}\nexcept hostler.tracking.Refused as e:\n    print(e)")
    assert words in done.stdout


def test_a_checkpoint_is_whole_in_the_spool_before_it_is_told(tmp_path: Path) -> None:
    environ = agent_environment(tmp_path)
    run(
        tmp_path,
        "open('w.bin', 'wb').write(b'x' * 100)\nhostler.init()\nhostler.checkpoint('w.bin', step=5)\n"
        "open('w.bin', 'wb').write(b'changed later')",
        environ,
    )
    (record,) = records(tmp_path, "a")
    told = record[1]
    assert isinstance(told, dict)
    assert (told["type"], told["step"], told["size"], told["keep"]) == ("checkpoint", 5, 100, 3)
    assert (tmp_path / "out" / "spool" / told["digest"]).read_bytes() == b"x" * 100


def test_only_the_newest_checkpoints_take_up_disk_while_nobody_collects_them(tmp_path: Path) -> None:
    program = "hostler.init()\nfor n in range(10):\n    open('w', 'w').write(str(n)); hostler.checkpoint('w', keep=2)"
    run(tmp_path, program, agent_environment(tmp_path))
    assert len(list((tmp_path / "out" / "spool").iterdir())) == 2


def test_a_folder_is_a_checkpoint_too_and_comes_back_as_it_was(tmp_path: Path) -> None:
    program = (
        "import os\nos.makedirs('model/deep')\nopen('model/a', 'w').write('1')\nopen('model/deep/b', 'w').write('2')\n"
        "hostler.init(mode='offline', resume='same')\nhostler.checkpoint('model', step=9)"
    )
    run(tmp_path, program)
    back = run(
        tmp_path,
        "hostler.init(mode='offline', resume='same')\np = hostler.restore(to='back')\n"
        "print(p.name, (p / 'a').read_text(), (p / 'deep/b').read_text())\nhostler.log({'x': 1})",
    )
    assert back.stdout.split() == ["back", "1", "2"]
    assert records(tmp_path, "m")[-1][1] == 10, "steps go on from the checkpoint's"


def test_restore_without_a_checkpoint_is_none(tmp_path: Path) -> None:
    assert run(tmp_path, "hostler.init(mode='offline')\nprint(hostler.restore())").stdout.strip() == "None"


def test_a_disabled_run_leaves_no_trace(tmp_path: Path) -> None:
    run(
        tmp_path,
        "hostler.init(mode='disabled', config={'a': 1})\nhostler.log({'a': 1})\nhostler.checkpoint('none')\n"
        "assert hostler.restore() is None",
    )
    assert list(tmp_path.iterdir()) == []


def test_what_the_run_was_made_of_is_captured(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    (tmp_path / "a.py").write_text("print(1)\n")
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *author, "commit", "-qm", "x"], cwd=tmp_path, check=True)
    (tmp_path / "a.py").write_text("print(2)\n")
    run(tmp_path, "with hostler.init(): pass")
    (found,) = records(tmp_path, "e")
    assert isinstance(found[1], dict)
    assert "print(2)" in found[1]["git"]["diff"]
    assert any(name.startswith("pytest==") for name in found[1]["packages"])


def test_an_exception_makes_the_run_a_failed_one(tmp_path: Path) -> None:
    run(tmp_path, "hostler.init(mode='offline')\nraise ValueError('no more')", code=1)
    (end,) = tmp_path.rglob("finish.json")
    assert json.loads(end.read_text()) == {"state": "failed", "message": "ValueError('no more')"}


def test_a_full_disk_does_not_stop_the_training(tmp_path: Path) -> None:
    program = (
        "import resource\nhostler.init(mode='offline', capture='none')\nhostler.log({'a': 1})\n"
        "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400, -1))\n"
        "for n in range(100): hostler.log({'a': n})\nprint(hostler.init().lost_records > 0)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))"
    )
    done = run(tmp_path, program)
    assert done.stdout.strip() == "True"
    assert done.stderr.count("could not be written") == 1
