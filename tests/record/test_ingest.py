"""Journal batches at the port: stored once, whole or counted, and read back as they were meant."""

from __future__ import annotations

import math
import zlib
from typing import Any

from hostler.tracking import journal, wire
from hostler.tracking.server import series
from record.world import Run, World, frames


def metric(step: int | None, values: dict[str, Any], context: Any = None, at: float = 5.0) -> list[Any]:
    return ["m", step, at, values, context]


def series_of(run: Run, key: str, **query: Any) -> list[tuple[int, Any]]:
    return [(point["step"], point["value"]) for point in run.points(key, **query)]


def test_points_come_back_by_step_with_their_time_rank_and_attempt(world: World) -> None:
    run = world.run()
    data = frames(metric(2, {"loss": 0.25}, at=7.5), metric(1, {"loss": 0.5, "acc": 1}))
    assert run.journal(data).json() == {"offset": len(data), "broken": 0}
    assert run.points("loss") == [
        {"step": 1, "time": 5.0, "value": 0.5, "attempt": 1, "rank": 0},
        {"step": 2, "time": 7.5, "value": 0.25, "attempt": 1, "rank": 0},
    ]
    assert series_of(run, "acc") == [(1, 1.0)]


def test_a_batch_that_comes_twice_is_stored_once(world: World) -> None:
    run = world.run()
    data = frames(metric(1, {"loss": 0.5}))
    for _ in range(3):
        assert run.journal(data).json()["offset"] == len(data)
    assert series_of(run, "loss") == [(1, 0.5)]
    assert run.read("metrics")["items"][0]["count"] == 1


def test_a_run_that_is_taken_up_again_brings_its_old_segments_along_at_no_cost(world: World) -> None:
    run = world.run()
    data = frames(metric(1, {"loss": 0.5}))
    run.journal(data)
    run.finish("completed", 0)
    again = world.run()
    more = frames(metric(2, {"loss": 0.25}))
    assert again.journal(data).json()["offset"] == len(data)
    again.journal(more, segment="0-2-b.jnl")
    assert series_of(again, "loss") == [(1, 0.5), (2, 0.25)]
    assert again.read("metrics")["items"][0]["count"] == 2


def test_a_batch_that_overlaps_the_one_before_adds_only_what_is_new(world: World) -> None:
    run = world.run()
    first, second, third = (frames(metric(step, {"loss": step / 10})) for step in (1, 2, 3))
    run.journal(first + second)
    answer = run.journal(second + third, offset=len(first))
    assert answer.json()["offset"] == len(first + second + third)
    assert series_of(run, "loss") == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_a_batch_beyond_what_is_durable_stores_nothing_and_is_told_where_to_go_on(world: World) -> None:
    run = world.run()
    data = frames(metric(1, {"loss": 0.5}))
    answer = run.journal(data, offset=1000)
    assert answer.status_code == 200
    assert answer.json()["offset"] == 0
    assert run.read("metrics")["items"] == []


def test_segments_and_ranks_have_marks_of_their_own(world: World) -> None:
    run = world.run()
    data = frames(metric(1, {"loss": 0.5}))
    run.journal(data)
    run.journal(data, segment="0-2-bb.jnl")
    run.journal(data, segment="1-1-cc.jnl", rank=1)
    assert [point["rank"] for point in run.points("loss")] == [0, 0, 1]
    assert len(run.points("loss", rank=1)) == 1
    assert [mark["offset"] for mark in run.read("journal")["items"]] == [len(data)] * 3


def test_a_record_cut_in_two_is_taken_in_when_its_rest_comes(world: World) -> None:
    run = world.run()
    data = frames(metric(1, {"loss": 0.5}), metric(2, {"loss": 0.4}))
    reached = run.journal(data[:-5]).json()["offset"]
    assert 0 < reached < len(data)
    assert run.journal(data[reached:], offset=reached).json() == {"offset": len(data), "broken": 0}
    assert series_of(run, "loss") == [(1, 0.5), (2, 0.4)]


def test_nan_and_infinities_are_values(world: World) -> None:
    run = world.run()
    run.journal(
        frames(metric(1, {"a": "nan", "b": "inf", "c": "-inf"}), metric(2, {"a": 2.0, "b": 1.0, "c": 3.0}))
    )
    assert series_of(run, "a") == [(1, "nan"), (2, 2.0)]
    assert series_of(run, "b") == [(1, "inf"), (2, 1.0)]
    assert series_of(run, "c") == [(1, "-inf"), (2, 3.0)]
    summary = {item["key"]: item for item in run.read("metrics")["items"]}
    assert summary["b"]["count"] == 2
    assert (summary["b"]["min"], summary["b"]["max"], summary["b"]["last"]) == (1.0, 1.0, 1.0)


def test_a_last_value_that_is_not_finite_is_shown_as_such(world: World) -> None:
    run = world.run()
    run.journal(frames(metric(1, {"loss": 0.5}), metric(2, {"loss": "nan"})))
    shown = run.read("metrics")["items"][0]
    assert (shown["last"], shown["last_step"], shown["min"]) == ("nan", 2, 0.5)


def test_bare_nan_tokens_of_other_writers_are_values_too(world: World) -> None:
    body = b'["m",1,5.0,{"loss":NaN,"top":Infinity,"gap":null},null]'
    run = world.run()
    run.journal(b"%08x %s\n" % (zlib.crc32(body), body))
    assert series_of(run, "loss") == [(1, "nan")]
    assert series_of(run, "top") == [(1, "inf")]
    assert series_of(run, "gap") == [(1, "nan")]


def test_points_without_a_step_count_on_from_the_last_one(world: World) -> None:
    run = world.run()
    first = frames(*(metric(None, {"loss": value}) for value in (3.0, 2.0)))
    run.journal(first)
    run.journal(frames(metric(10, {"loss": 1.5}), metric(None, {"loss": 1.0})), offset=len(first))
    assert series_of(run, "loss") == [(0, 3.0), (1, 2.0), (10, 1.5), (11, 1.0)]


def test_contexts_keep_points_of_one_key_apart(world: World) -> None:
    run = world.run()
    run.journal(
        frames(
            metric(1, {"loss": 1.0}, {"subset": "train", "fold": 1}),
            metric(1, {"loss": 2.0}, {"fold": 1, "subset": "val"}),
            metric(1, {"loss": 3.0}),
        )
    )
    assert series_of(run, "loss", context='{"fold":1,"subset":"train"}') == [(1, 1.0)]
    assert series_of(run, "loss", context='{"fold":1,"subset":"val"}') == [(1, 2.0)]
    assert series_of(run, "loss") == [(1, 3.0)]


def test_ten_thousand_metrics_in_one_record_are_all_there(world: World) -> None:
    run = world.run()
    names = [f"layer{number}/grad" for number in range(10_000)]
    data = frames(metric(1, {name: float(number) for number, name in enumerate(names)}))
    assert run.journal(data).json() == {"offset": len(data), "broken": 0}
    seen: list[str] = []
    cursor = None
    while True:
        page = run.read("metrics", limit=4000, **({"cursor": cursor} if cursor else {}))
        seen += [item["key"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == names


def test_metrics_beyond_the_limit_of_a_task_are_left_out_and_counted(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(series, "METRICS_PER_TASK_MAX", 3)
    run = world.run()
    run.journal(frames(metric(1, {f"m{number}": 1.0 for number in range(5)}), metric(2, {"m0": 2.0})))
    assert [item["key"] for item in run.read("metrics")["items"]] == ["m0", "m1", "m2"]
    assert series_of(run, "m0") == [(1, 1.0), (2, 2.0)]
    assert run.read("journal")["items"][0]["skipped"] == 2


def test_any_unicode_may_be_a_key_and_over_long_ones_stay_apart(world: World) -> None:
    run = world.run()
    names = ["Verlust/größe", "損失", "🐴", "a" * 600 + "x", "a" * 600 + "y", "nul\x00l", "lone\ud800"]
    run.journal(frames(metric(1, dict.fromkeys(names, 1.0))))
    shown = [item["key"] for item in run.read("metrics")["items"]]
    assert shown[:3] == names[:3]
    assert len(set(shown)) == 7
    assert max(map(len, shown)) == 512
    for key in shown:
        assert series_of(run, key) == [(1, 1.0)]


def test_broken_lines_are_skipped_counted_and_reported(world: World) -> None:
    run = world.run()
    good = [frames(metric(step, {"loss": 0.5})) for step in (1, 2)]
    data = good[0] + b"0000dead [1]\n" + b"\xff\xfe\n" + good[1]
    assert run.journal(data).json() == {"offset": len(data), "broken": 2}
    more = b"torn\n"
    assert run.journal(more, offset=len(data)).json() == {"offset": len(data) + len(more), "broken": 3}
    assert [step for step, _ in series_of(run, "loss")] == [1, 2]
    assert run.read("journal")["items"][0]["broken"] == 3
    with world.database.read() as conn:
        kinds = [row["kind"] for row in world_events(conn)]
    assert kinds.count("task.journal_broken") == 1


def world_events(conn: Any) -> list[dict[str, Any]]:
    from hostler.tracking.server import events

    return events.after(conn, "default", 0, 1000)


def test_records_that_say_nonsense_lose_only_their_wrong_part(world: World) -> None:
    run = world.run()
    data = frames(
        metric(1, {"good": 1.0, "bad": "tall"}),
        ["m", "x", 5.0, {"good": 9.0}, None],
        ["m", 2**80, 5.0, {"good": 9.0}, None],
        ["m", 1],
        ["p", ["no", "mapping"]],
        metric(2, {"good": 2.0}),
    )
    assert run.journal(data).json()["broken"] == 5
    assert series_of(run, "good") == [(1, 1.0), (2, 2.0)]


def test_records_of_unknown_kinds_are_skipped_and_counted(world: World) -> None:
    run = world.run()
    data = frames(["zz", {"from": "the future"}], metric(1, {"loss": 0.5}), ["figure", "x"])
    assert run.journal(data).json() == {"offset": len(data), "broken": 0}
    assert run.read("journal")["items"][0]["skipped"] == 2
    assert series_of(run, "loss") == [(1, 0.5)]


def test_parameters_keep_their_types_and_the_newest_value_wins(world: World) -> None:
    run = world.run()
    given = {"lr": 0.1, "layers": [64, 32], "name": "adam", "amp": True, "seed": 7, "none": None}
    first = frames(["p", given])
    run.journal(first)
    run.journal(frames(["p", {"lr": 0.2, "new": {"a": 1}}]), offset=len(first))
    assert run.read("params")["params"] == {**given, "lr": 0.2, "new": {"a": 1}}


def test_a_parameter_of_a_megabyte_is_kept(world: World) -> None:
    run = world.run()
    text = "x" * 1_000_000
    run.journal(frames(["p", {"prompt": text}]))
    assert run.read("params")["params"] == {"prompt": text}


def test_tags_and_the_environment_are_added_to_what_is_there(world: World) -> None:
    run = world.run(tags=["first"], capture={"host": "lab-1"})
    run.journal(frames(["g", ["second", "first"]], ["e", {"git": {"sha": "abc"}, "seed": "nan"}]))
    assert world.task(run.task_id)["tags"] == ["first", "second"]
    environment = run.read("environment")
    assert environment == {
        "attempt": 1,
        "environment": {"host": "lab-1", "git": {"sha": "abc"}, "seed": "nan"},
    }


def test_an_older_attempt_is_shadowed_from_the_first_step_of_a_newer_one(world: World) -> None:
    first = world.fleet_task()
    first.journal(frames(*(metric(step, {"loss": 1.0}) for step in range(6))))
    second = first.next_attempt()
    second.journal(frames(*(metric(step, {"loss": 2.0}) for step in (3, 4))))
    assert series_of(second, "loss") == [(0, 1.0), (1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]
    assert len(series_of(second, "loss", attempt=1)) == 6
    third = second.next_attempt()
    third.journal(frames(metric(1, {"loss": 3.0})))
    assert series_of(third, "loss") == [(0, 1.0), (1, 3.0)]
    assert third.read("metrics")["items"][0]["count"] == 9


def test_the_last_value_is_that_of_the_newest_attempt(world: World) -> None:
    first = world.fleet_task()
    first.journal(frames(metric(100, {"loss": 1.0})))
    second = first.next_attempt()
    second.journal(frames(metric(50, {"loss": 2.0}), metric(40, {"loss": 9.0})))
    shown = second.read("metrics")["items"][0]
    assert (shown["last"], shown["last_step"], shown["last_attempt"]) == (2.0, 50, 2)
    assert (shown["min"], shown["max"]) == (1.0, 9.0)


def test_a_long_series_comes_in_buckets_that_keep_its_extremes(world: World) -> None:
    run = world.run()
    offset = 0
    for start in range(0, 30_000, 10_000):
        values = ((step, math.sin(step / 500)) for step in range(start, start + 10_000))
        data = frames(*(metric(s, {"wave": 99.0 if s == 12_345 else v}) for s, v in values))
        for batch in split(data):
            offset = run.journal(batch, offset=offset).json()["offset"]
    answer = run.read("metrics/points", key="wave", max_points=100)
    assert answer["sampled"]
    assert answer["count"] == 30_000
    assert 90 <= len(answer["points"]) <= 100
    assert sum(point["count"] for point in answer["points"]) == 30_000
    assert max(point["max"] for point in answer["points"]) == 99.0
    peak = next(point for point in answer["points"] if point["max"] == 99.0)
    assert peak["step"] <= 12_345 <= peak["last_step"]
    zoomed = run.read("metrics/points", key="wave", max_points=100, step_min=12_340, step_max=12_349)
    assert not zoomed["sampled"]
    assert [point["step"] for point in zoomed["points"]] == list(range(12_340, 12_350))


def split(data: bytes) -> list[bytes]:
    batches = []
    while data:
        end = data.rfind(b"\n", 0, wire.JOURNAL_BATCH_BYTES) + 1
        batches.append(data[:end])
        data = data[end:]
    return batches


def test_buckets_take_steps_as_far_apart_as_integers_go(world: World) -> None:
    run = world.run()
    far = 2**61
    run.journal(frames(*(metric(step, {"x": 1.0}) for step in (-far, 0, 5, far))))
    answer = run.read("metrics/points", key="x", max_points=3)
    assert sum(point["count"] for point in answer["points"]) == 4
    assert len(answer["points"]) <= 3


def test_a_bucket_without_a_finite_value_says_so(world: World) -> None:
    run = world.run()
    run.journal(frames(*(metric(step, {"x": "nan" if step < 5 else 1.0}) for step in range(10))))
    first, second = run.read("metrics/points", key="x", max_points=2)["points"]
    assert (first["value"], first["min"], first["nonfinite"], first["count"]) == (None, None, 5, 5)
    assert (second["value"], second["nonfinite"]) == (1.0, 0)


def test_an_oversize_batch_is_refused_and_nothing_is_stored(world: World) -> None:
    run = world.run()
    size = wire.JOURNAL_BATCH_BYTES + journal.RECORD_BYTES_MAX + 17
    answer = run.journal(b"x" * size)
    assert answer.status_code == 413
    assert answer.json()["code"] == "TOO_LARGE"
    assert run.read("journal")["items"] == []


def test_junk_without_a_line_end_is_counted_and_passed_over(world: World) -> None:
    run = world.run()
    junk = b"x" * (journal.RECORD_BYTES_MAX + 17)
    assert run.journal(junk).json() == {"offset": len(junk), "broken": 1}
    data = b"\n" + frames(metric(1, {"loss": 0.5}))
    assert run.journal(data, offset=len(junk)).json()["offset"] == len(junk + data)
    assert series_of(run, "loss") == [(1, 0.5)]


def test_bad_queries_are_refused_with_what_is_wrong(world: World) -> None:
    run = world.run()
    for query in ("rank=-1", "offset=-1", "offset=99999999999999999999", "segment=../x", "segment="):
        parameters = {"rank": "0", "segment": "s", "offset": "0", **dict([query.split("=")])}
        answer = run.call("POST", wire.JOURNAL.partition("?")[0], params=parameters, content=b"")
        assert answer.status_code == 422, query
        assert answer.json()["code"] == "INVALID"
        assert query.split("=")[0] in answer.json()["detail"]


def test_a_metric_nobody_logged_is_not_found(world: World) -> None:
    run = world.run()
    answer = world.get(f"/api/v1/tasks/{run.task_id}/metrics/points", key="loss")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
