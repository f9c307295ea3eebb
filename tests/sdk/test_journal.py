"""The journal keeps every record that `append` returned from, and its reader takes any bytes."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hostler.tracking import journal
from hypothesis import given
from hypothesis import strategies as st

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(LEAVES | st.text(st.characters(exclude_categories=["Cs"])), st.lists, max_leaves=10)


def read_all(folder: Path) -> tuple[list[object], int]:
    records: list[object] = []
    broken = 0
    for segment in journal.segments(str(folder)):
        found, bad = journal.parse((folder / segment).read_bytes())
        records += found
        broken += bad
    return records, broken


@given(st.lists(JSON, min_size=1))
def test_a_record_comes_back_as_it_was(items: list[object]) -> None:
    assert journal.parse(journal.frame(items)) == ([items], 0)


@given(st.binary(max_size=200), st.integers(0, 60))
def test_junk_between_records_costs_only_the_lines_it_hit(junk: bytes, cut: int) -> None:
    whole = [journal.frame(["m", number]) for number in range(3)]
    found, _ = journal.parse(
        whole[0] + whole[1][: cut % len(whole[1])] + junk.replace(b"\n", b"") + b"\n" + whole[2]
    )
    assert found[0] == ["m", 0]
    assert found[-1] == ["m", 2]


def test_a_changed_byte_is_noticed() -> None:
    line = bytearray(journal.frame(["m", 1, {"loss": 0.5}]))
    line[-4] ^= 1
    assert journal.parse(bytes(line)) == ([], 1)


def test_not_a_number_has_no_json_and_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        journal.frame(["m", math.nan])


def test_a_record_over_the_limit_is_refused() -> None:
    with pytest.raises(journal.RecordTooLarge):
        journal.frame(["p", "x" * (journal.RECORD_BYTES_MAX + 1)])


def test_nothing_is_lost_when_the_writer_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom hostler.tracking.journal import Writer\nw = Writer(sys.argv[1])\n"
        "n = 0\nwhile True:\n    w.append(['m', n]); n += 1\n    sys.stdout.write(f'{n}\\n'); sys.stdout.flush()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for _ in range(500):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        said = [line for line in writer.stdout if line.endswith("\n")]
        acknowledged = int(said[-1]) if said else acknowledged
    records, broken = read_all(tmp_path)
    assert broken == 0
    assert len(records) >= acknowledged
    assert records == [["m", number] for number in range(len(records))]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_writers_never_tear_each_others_records(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom hostler.tracking.journal import Writer\nw = Writer(sys.argv[1])\nw.append(['m', -1])\n"
        "for child in range(4):\n    if os.fork() == 0:\n"
        "        for n in range(2000): w.append(['m', child, n, 'x' * (n % 50)])\n        os._exit(0)\n"
        "for _ in range(4): os.wait()\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    records, broken = read_all(tmp_path)
    assert broken == 0
    assert len(records) == 1 + 4 * 2000
    assert len(journal.segments(str(tmp_path))) == 5


def test_threads_share_one_journal(tmp_path: Path) -> None:
    writer = journal.Writer(str(tmp_path))

    def write() -> None:
        for number in range(500):
            writer.append(["m", number])

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records, broken = read_all(tmp_path)
    assert (len(records), broken) == (4000, 0)


def test_batches_hold_whole_lines_and_cover_every_byte(tmp_path: Path) -> None:
    writer = journal.Writer(str(tmp_path))
    for number in range(300):
        writer.append(["m", number, "y" * number])
    (segment,) = journal.segments(str(tmp_path))
    data = b""
    while (batch := journal.read_batch(str(tmp_path), segment, len(data), 1000)) is not None:
        assert batch.data.endswith(b"\n")
        assert (batch.offset, batch.end) == (len(data), len(data) + len(batch.data))
        data += batch.data
    assert data == (tmp_path / segment).read_bytes()


def test_a_half_written_last_line_waits_for_its_end(tmp_path: Path) -> None:
    line = journal.frame(["m", 1])
    (tmp_path / "0-1-a.jnl").write_bytes(line + line[:5])
    batch = journal.read_batch(str(tmp_path), "0-1-a.jnl", 0, 1000)
    assert batch is not None
    assert batch.data == line
    assert journal.read_batch(str(tmp_path), "0-1-a.jnl", batch.end, 1000) is None
