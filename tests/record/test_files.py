"""Blobs and artifacts: verified, atomic, versioned, swept when nothing refers to them."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostler.tracking import wire
from hostler.tracking.server import blobs as blob_store
from hostler.tracking.server.blobs import GRACE_SECONDS, Blobs
from hostler.tracking.server.database import StorageFull
from record.world import Run, World, digest_of


def stored(world: World) -> set[str]:
    return {path.name for path in world.blobs.folder.glob("*/*")}


def put(run: Run, digest: str, data: Any, **headers: str) -> Any:
    return run.call("PUT", wire.BLOB, at={"digest": digest}, content=data, headers=headers)


def test_a_blob_comes_back_as_it_was(world: World) -> None:
    run = world.run()
    data = bytes(range(256)) * 20_000
    run.artifact("data", data)
    at = {"digest": digest_of(data)}
    assert run.call("HEAD", wire.BLOB, at=at).headers["x-hostler-size"] == str(len(data))
    answer = run.call("GET", wire.BLOB, at=at)
    assert hashlib.sha256(answer.content).hexdigest() == answer.headers["x-hostler-sha256"] == at["digest"]
    part = run.call("GET", wire.BLOB, at=at, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, data[100:200])


def test_an_empty_blob_is_a_blob(world: World) -> None:
    run = world.run()
    run.artifact("empty", b"")
    assert run.call("GET", wire.BLOB, at={"digest": digest_of(b"")}).content == b""


def test_a_blob_that_is_not_there_is_not_found(world: World) -> None:
    run = world.run()
    for method in ("HEAD", "GET"):
        assert run.call(method, wire.BLOB, at={"digest": "a" * 64}).status_code == 404


def test_bytes_that_are_not_those_of_the_digest_are_refused_and_leave_nothing(world: World) -> None:
    run = world.run()
    answer = put(run, digest_of(b"right"), b"wrong")
    assert (answer.status_code, answer.json()["code"]) == (422, "DIGEST_MISMATCH")
    assert stored(world) == set()


@pytest.mark.parametrize("digest", ["abc", "A" * 64, "..%2f..%2fstate.db", "z" * 64])
def test_what_is_no_digest_is_refused(world: World, digest: str) -> None:
    assert put(world.run(), digest, b"x").status_code in (404, 422)
    assert stored(world) == set()


def test_a_blob_without_its_length_is_refused(world: World) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x"

    answer = put(world.run(), digest_of(b"x"), pieces())
    assert (answer.status_code, answer.json()["code"]) == (411, "LENGTH_REQUIRED")


def test_a_blob_over_the_limit_is_refused_before_it_is_read(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(wire, "BLOB_BYTES_MAX", 10)
    answer = put(world.run(), digest_of(b"x" * 11), b"x" * 11)
    assert (answer.status_code, answer.json()["limit_bytes"]) == (413, 10)
    assert stored(world) == set()


def test_a_stream_that_grows_past_the_limit_is_cut_off_and_leaves_nothing(world: World) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 1000

    with pytest.raises(Exception, match="over its limit"):
        asyncio.run(world.blobs.put("a" * 64, endless(), limit_bytes=10_000))
    assert sent == 11
    assert stored(world) == set()


def test_an_upload_whose_client_goes_away_leaves_nothing(world: World) -> None:
    async def torn() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(world.blobs.put(digest_of(b"half of it"), torn(), limit_bytes=100))
    assert stored(world) == set()


def test_a_full_disk_is_told_as_such_and_leaves_nothing(world: World, monkeypatch: Any) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = world.run()
    with monkeypatch.context() as patch:
        patch.setattr(blob_store, "_write", full)
        answer = put(run, digest_of(b"x"), b"x")
    assert (answer.status_code, answer.json()["code"]) == (503, "STORAGE_FULL")
    assert "retry-after" in answer.headers
    assert stored(world) == set()
    assert put(run, digest_of(b"x"), b"x").status_code == 200
    assert StorageFull.__doc__


def test_a_blob_that_comes_twice_is_stored_once(world: World) -> None:
    one, two = world.run("one"), world.run("two")
    assert one.blob(b"same") == two.blob(b"same")
    assert stored(world) == {digest_of(b"same")}


def test_a_person_uploads_a_code_snapshot_that_its_task_then_reads(world: World) -> None:
    digest = digest_of(b"tar")
    headers = {"Authorization": f"Bearer {world.token()}"}
    path = f"/api/v1/blobs/{digest}"
    assert world.client.head(path, headers=headers).status_code == 404
    assert world.client.put(path, content=b"tar", headers=headers).json() == {"digest": digest, "size": 3}
    assert world.client.head(path, headers=headers).status_code == 200
    run = world.fleet_task(code_digest=digest)
    assert run.call("GET", wire.CODE).content == b"tar"
    assert world.fleet_task("task-2").call("GET", wire.CODE).status_code == 404
    viewer = {"Authorization": f"Bearer {world.token(role='viewer')}"}
    assert world.client.put(path, content=b"tar", headers=viewer).status_code == 403


def test_a_task_reads_no_blob_that_its_workspace_does_not_refer_to(world: World) -> None:
    run = world.run()
    digest = run.blob(b"somebody's")
    assert run.call("GET", wire.BLOB, at={"digest": digest}).status_code == 404


def test_names_point_to_versions_that_count_up(world: World) -> None:
    run = world.run()
    assert run.artifact("model", b"one") == 1
    assert run.artifact("model", b"two", metadata={"acc": 0.9}) == 2
    assert run.artifact("plots/loss.png", b"one") == 1
    items = run.read("artifacts")["items"]
    assert [(item["name"], item["version"]) for item in items] == [
        ("plots/loss.png", 1),
        ("model", 2),
        ("model", 1),
    ]
    assert items[1]["metadata"] == {"acc": 0.9}
    page = run.read("artifacts", limit=2)
    rest = run.read("artifacts", limit=2, cursor=page["next_cursor"])
    assert [item["version"] for item in rest["items"]] == [1]
    assert rest["next_cursor"] is None


def test_the_same_record_again_answers_the_same_version(world: World) -> None:
    run = world.run()
    assert [run.artifact("model", b"one", step=1) for _ in range(3)] == [1, 1, 1]
    assert run.artifact("model", b"one", step=2) == 2
    assert len(run.read("artifacts")["items"]) == 2


def test_an_artifact_whose_bytes_are_not_here_is_refused(world: World) -> None:
    run = world.run()
    answer = run.call("POST", wire.ARTIFACT, json={"name": "m", "digest": "a" * 64})
    assert (answer.status_code, answer.json()["code"]) == (409, "BLOB_MISSING")


def test_an_artifact_of_another_size_than_its_blob_is_refused(world: World) -> None:
    run = world.run()
    record = {"name": "m", "digest": run.blob(b"four"), "size": 5}
    assert run.call("POST", wire.ARTIFACT, json=record).json()["code"] == "SIZE_MISMATCH"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "../etc/passwd"},
        {"name": "/abs"},
        {"name": "a//b"},
        {"name": "a\\b"},
        {"name": "a\nb"},
        {"name": "x" * 513},
        {"type": "UPPER"},
        {"step": 2**63},
        {"step": "x"},
        {"keep": 0},
        {"metadata": []},
        {"metadata": {"x": "y" * 70_000}},
        {"digest": "short"},
    ],
)
def test_artifacts_that_say_nonsense_are_refused(world: World, wrong: dict[str, Any]) -> None:
    run = world.run()
    record = {"name": "m", "digest": run.blob(b"x"), **wrong}
    answer = run.call("POST", wire.ARTIFACT, json=record)
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID")
    assert run.read("artifacts")["items"] == []


def test_artifacts_are_downloaded_by_name_and_version(world: World) -> None:
    run = world.run()
    run.artifact("out/model.bin", b"one")
    run.artifact("out/model.bin", b"two")
    path = f"/api/v1/tasks/{run.task_id}/artifacts/out/model.bin/download"
    newest, first = world.get(path), world.get(path, version=1)
    assert (newest.content, first.content) == (b"two", b"one")
    assert "model.bin" in newest.headers["content-disposition"]
    assert world.get(path, version=3).status_code == 404
    assert world.get(path.replace("model.bin", "other")).status_code == 404


def test_the_newest_checkpoint_of_any_attempt_is_the_one_to_go_on_from(world: World) -> None:
    run = world.fleet_task()
    assert run.call("GET", wire.CHECKPOINT).status_code == 404
    run.artifact("state", b"5", type="checkpoint", step=5)
    run.artifact("notes", b"not one")
    again = run.next_attempt()
    found = again.call("GET", wire.CHECKPOINT).json()
    assert (found["step"], found["attempt"], found["digest"]) == (5, 1, digest_of(b"5"))
    again.artifact("state", b"3", type="checkpoint", step=3)
    assert again.call("GET", wire.CHECKPOINT).json()["step"] == 3
    assert again.call("GET", wire.BLOB, at={"digest": digest_of(b"3")}).content == b"3"


def test_keep_prunes_older_checkpoints_of_that_name_only(world: World) -> None:
    run = world.run()
    run.artifact("best", b"best", type="checkpoint", step=0)
    run.artifact("file", b"file")
    for step in range(1, 6):
        run.artifact("state", str(step).encode(), type="checkpoint", step=step, keep=2)
    left = [(item["name"], item["version"]) for item in run.read("artifacts")["items"]]
    assert left == [("state", 5), ("state", 4), ("file", 1), ("best", 1)]
    assert run.artifact("state", b"6", type="checkpoint", step=6, keep=1) == 6
    assert run.call("GET", wire.CHECKPOINT).json()["step"] == 6


def test_a_sweep_removes_what_nothing_refers_to_after_its_grace(world: World) -> None:
    run = world.run()
    run.artifact("kept", b"kept")
    world.fleet_task(code_digest=run.blob(b"code"))
    for step in range(3):
        run.artifact("state", str(step).encode(), type="checkpoint", step=step, keep=1)
    run.blob(b"orphan")
    assert world.blobs.sweep(world.clock()) == 0
    world.clock.now += GRACE_SECONDS + 1
    assert world.blobs.sweep(world.clock()) == 3
    assert stored(world) == {digest_of(data) for data in (b"kept", b"code", b"2")}
    assert run.call("HEAD", wire.BLOB, at={"digest": digest_of(b"orphan")}).status_code == 404


def test_asking_for_a_blob_keeps_it_a_while_longer(world: World) -> None:
    run = world.run()
    digest = run.blob(b"orphan")
    world.clock.now += GRACE_SECONDS
    run.call("HEAD", wire.BLOB, at={"digest": digest})
    world.clock.now += 1
    assert world.blobs.sweep(world.clock()) == 0


def test_a_sweep_removes_what_crashes_left_behind(world: World) -> None:
    orphan = world.blobs.path("a" * 64)
    orphan.parent.mkdir()
    orphan.write_bytes(b"published, but its row never came")
    torn = world.blobs.folder / "uploads" / "torn"
    torn.write_bytes(b"half")
    world.blobs.sweep(0.0)
    assert orphan.exists()
    world.blobs.sweep(world.clock(), grace_seconds=-1e12)
    assert not orphan.exists()
    assert not torn.exists()


def test_a_blob_whose_file_was_lost_is_told_instead_of_an_empty_answer(world: World) -> None:
    run = world.run()
    run.artifact("model", b"one")
    world.blobs.path(digest_of(b"one")).unlink()
    answer = world.get(f"/api/v1/tasks/{run.task_id}/artifacts/model/download")
    assert (answer.status_code, answer.json()["code"]) == (500, "BLOB_LOST")


def test_blobs_of_an_earlier_process_are_there(world: World, tmp_path: Path) -> None:
    run = world.run()
    run.artifact("model", b"one")
    world.app.state.blobs = Blobs(tmp_path / "blobs", world.database)
    assert world.get(f"/api/v1/tasks/{run.task_id}/artifacts/model/download").content == b"one"
