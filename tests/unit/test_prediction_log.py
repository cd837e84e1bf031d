"""The prediction log against real stores: a folder, S3 (moto), and ones that fail."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import boto3
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from pulumi_mlops.runtime import prediction_log
from pulumi_mlops.runtime.prediction_log import PredictionLog, Record
from pulumi_mlops.runtime.prediction_spool import Spool
from pulumi_mlops.runtime.prediction_store import FolderStore, S3Store, store_for

NOON = 1_700_000_000.0  # 2023-11-14T22:13:20Z


def record(number: int, moment: float = NOON) -> Record:
    return Record(f"id-{number}", moment, b'{"x":[1.0]}', b'["a"]', 0.25)


def log_to(store, **options) -> PredictionLog:
    options = {"flush_seconds": 60.0, "max_backoff_seconds": 0.05, **options}
    return PredictionLog(store, endpoint="e", model="m", version="3", **options)


def until(condition) -> None:
    while not condition():
        time.sleep(0.01)


class Flaky:
    """A store that fails while told to; remembers every attempt."""

    def __init__(self) -> None:
        self.down = True
        self.attempts: list[str] = []
        self.files: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        self.attempts.append(key)
        if self.down:
            raise ConnectionError("refused")
        self.files[key] = data


def test_folder_has_the_hive_layout_and_every_column(tmp_path):
    log = log_to(store_for(str(tmp_path)))
    for number in range(3):
        assert log.add(record(number))
    assert log.close()
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    folder, name = file.relative_to(tmp_path).parent, file.name
    assert str(folder) == "endpoint=e/version=3/date=2023-11-14"
    assert name.startswith("20231114T221320.000000Z-")
    assert name.endswith("-000001.parquet")
    table = ds.dataset(tmp_path, format="parquet", partitioning=None).to_table()
    assert table.column_names == [
        "id", "time", "endpoint", "model", "version", "inputs", "outputs", "latency_seconds",
    ]  # fmt: skip
    first = table.to_pylist()[0]
    assert first["time"].timestamp() == NOON
    del first["time"]
    assert first == {
        "id": "id-0", "endpoint": "e", "model": "m", "version": "3",
        "inputs": '{"x":[1.0]}', "outputs": '["a"]', "latency_seconds": 0.25,
    }  # fmt: skip


def test_full_batch_is_written_without_waiting(tmp_path):
    log = log_to(FolderStore(tmp_path), flush_rows=2)
    log.add(record(1, time.time()))
    log.add(record(2, time.time()))
    until(lambda: log.stats().written == 2)
    assert log.stats().queued_bytes == 0
    assert log.close()


def test_old_records_are_written_though_few(tmp_path):
    log = log_to(FolderStore(tmp_path), flush_seconds=0.1)
    log.add(record(1, time.time()))
    until(lambda: log.stats().written == 1)
    assert log.close()


def test_slow_requests_do_not_make_small_files(tmp_path):
    """The waiting time counts from the answer. These requests arrived long ago."""
    log = log_to(FolderStore(tmp_path), flush_seconds=60.0)
    for number in range(50):
        log.add(record(number, time.time() - 300))
        time.sleep(0.005)
    assert log.stats().written == 0
    assert log.close()
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_answers_of_two_days_in_turns_make_two_files(tmp_path):
    log = log_to(FolderStore(tmp_path))
    for number in range(20):
        log.add(record(number, NOON + 86_400 * (number % 2)))
    assert log.close()
    assert len(list(tmp_path.rglob("*.parquet"))) == 2


KILLED = """
import os, sys
from pathlib import Path
from pulumi_mlops.runtime.prediction_log import PredictionLog, Record
from pulumi_mlops.runtime.prediction_store import FolderStore
log = PredictionLog(FolderStore(Path(sys.argv[1])), endpoint="e", model="m", version="3",
                    flush_seconds=60, flush_rows=40, spool=Path(sys.argv[2]))
for number in range(100):
    log.add(Record(f"id-{number}", 1_700_000_000.0 + number, b'{"x":[1]}', b'["a"]', 0.25))
if sys.argv[3] == "written":  # the third file is, but its segment is not deleted
    from pulumi_mlops.runtime.prediction_log import _key
    log._store.put(_key(log._segments[-1].records[0], log._segments[-1]), b"")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("moment", ["queued", "written"])
def test_answers_of_a_killed_process_are_written_once_by_the_next(tmp_path, moment):
    data, spool = tmp_path / "log", tmp_path / "spool"
    subprocess.run([sys.executable, "-c", KILLED, str(data), str(spool), moment], check=False)
    (cut,) = sorted(spool.iterdir())[-1:]
    cut.write_bytes(cut.read_bytes() + b"\x05\0\0\0cut off")
    log = log_to(store_for(str(data)), spool=spool)
    log.add(record(100))
    assert log.close()
    assert list(spool.iterdir()) == []
    table = ds.dataset(data, format="parquet", partitioning=None).to_table()
    assert sorted(table["id"].to_pylist()) == sorted(f"id-{number}" for number in range(101))
    assert len(list(data.rglob("*.parquet"))) == 4


def test_what_cannot_be_written_at_shutdown_is_in_the_spool(tmp_path):
    log = log_to(Flaky(), spool=tmp_path / "spool")
    log.add(record(1))
    assert not log.close(0.1)
    assert log.stats().dropped_shutdown == 0
    store = Flaky()
    store.down = False
    assert log_to(store, spool=tmp_path / "spool").close()
    assert len(store.files) == 1


def test_a_spool_that_cannot_be_written_costs_no_record(tmp_path, monkeypatch):
    log = log_to(FolderStore(tmp_path / "log"), spool=tmp_path / "spool")
    monkeypatch.setattr(os, "write", lambda fd, data: 3)  # a full disk
    log.add(record(1))
    log.add(record(2))
    monkeypatch.undo()
    assert log.close()
    assert log.stats().written == 2


def closed_segment(folder: Path, name: str, version: str = "3") -> Path:
    """A segment of a server that has ended, with one record of id `name`."""
    constants = {"endpoint": "e", "model": "m", "version": version}
    file = Spool(folder, 1 << 20).file(name, constants)
    file.append(Record(name, NOON, b"{}", b"[]", 0.25))
    file.close()
    return folder / f"{name}.segment"


def ids_by_version(folder: Path) -> dict[str, list[str]]:
    table = ds.dataset(folder, format="parquet", partitioning=None).to_table()
    ids: dict[str, list[str]] = {}
    for row in table.to_pylist():
        ids.setdefault(row["version"], []).append(row["id"])
    return ids


def test_the_spool_is_bounded(tmp_path):
    for number in range(4):
        file = closed_segment(tmp_path, str(number))
        os.utime(file, (number, number))
    spool = Spool(tmp_path, 2 * file.stat().st_size)
    assert [leftover.name for leftover in spool.leftover()] == ["2", "3"]
    assert spool.dropped_records == 2


def test_a_running_server_writes_what_another_leaves_under_its_version(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "ADOPT_SECONDS", 0.05)
    spool = tmp_path / "spool"
    old = log_to(Flaky(), spool=spool)
    old._constants["version"] = "2"
    new = log_to(FolderStore(tmp_path / "log"), spool=spool, flush_seconds=1.0)
    old.add(record(1))
    new.add(record(2))
    time.sleep(0.2)
    assert len(list(spool.iterdir())) == 2  # neither adopts a file of a live server
    assert not old.close(0.1)
    until(lambda: new.stats().written == 2)
    assert new.close()
    assert ids_by_version(tmp_path / "log") == {"2": ["id-1"], "3": ["id-2"]}
    assert list(spool.iterdir()) == []


def test_a_spool_that_ends_with_the_replica_loses_its_records(tmp_path, caplog):
    log = log_to(Flaky(), spool=tmp_path, spool_is_shared=False)
    log.add(record(1))
    assert not log.close(0.1)
    assert log.stats().dropped_shutdown == 1
    assert "1 records were not written: lost with this replica" in caplog.text


def test_unreadable_leftover_is_set_aside_and_the_log_continues(tmp_path):
    spool = tmp_path / "spool"
    closed_segment(spool, "good")
    header = b"\x02\0\0\0{}"
    far = struct.pack("<IIIdd", 1, 0, 0, 1e300, 0.0) + b"x"
    for name, content in {
        "a": b"\xff" * 100, "b": b"\x02\0\0\0[]", "c": b"{",
        "d": header + struct.pack("<IIIdd", 1, 0, 0, NOON, 0.0) + b"\xff",
        "e": header + far,  # a time that is no date
    }.items():  # fmt: skip
        (spool / f"{name}.segment").write_bytes(content)
    (spool / "f.segment").mkdir()
    log = log_to(FolderStore(tmp_path / "log"), spool=spool)
    log.add(record(1))
    assert log.close()
    stats = log.stats()
    assert (stats.written, stats.damaged_files, stats.dropped_unencodable) == (2, 5, 1)
    assert sorted(entry.name for entry in spool.iterdir()) == [
        f"{name}.damaged" for name in "abcdf"
    ]
    assert sorted(ids_by_version(tmp_path / "log")["3"]) == ["good", "id-1"]


def test_a_file_that_cannot_be_deleted_or_renamed_does_not_end_the_log(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    spool = tmp_path / "spool"
    closed_segment(spool, "good")
    (spool / "bad.segment").write_bytes(b"{")
    monkeypatch.setattr(prediction_log, "ADOPT_SECONDS", 0.02)
    log = log_to(Flaky(), spool=spool, flush_rows=1)
    log._store.down = False
    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "rename", refuse)
    log.add(record(1))
    until(lambda: log.stats().written >= 2)
    time.sleep(0.2)
    log.add(record(2))
    assert log.close()
    assert log._store.attempts[0].endswith("-good.parquet")
    assert len(log._store.files) == 3
    assert log._store.attempts.count(log._store.attempts[0]) == 1  # written once
    assert log.stats().damaged_files == 1


def test_a_new_file_that_another_server_locks_first_blocks_nobody(tmp_path, monkeypatch):
    """The other one sees an empty file, and deletes it."""
    lock = fcntl.flock
    spool = Spool(tmp_path, 1 << 20)
    other = Spool(tmp_path, 1 << 20)
    searched: list[int] = []

    def late(fd: int, operation: int) -> None:
        if not searched:
            searched.append(fd)
            assert list(other.leftover()) == []
        assert operation & fcntl.LOCK_NB
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    file = spool.file("1", {})
    file.append(record(1))
    file.close()
    assert searched
    assert [leftover.records for leftover in spool.leftover()] == [[record(1)]]


def test_a_removed_folder_is_created_again(tmp_path):
    spool = tmp_path / "spool"
    log = log_to(Flaky(), spool=spool, flush_rows=1)
    log.add(record(1))
    shutil.rmtree(spool)
    log.add(record(2))
    log.close(0.05)
    assert [leftover.records for leftover in Spool(spool, 1 << 20).leftover()] == [[record(2)]]


def test_a_file_holds_one_day_only(tmp_path):
    log = log_to(FolderStore(tmp_path))
    log.add(record(1, NOON))
    log.add(record(2, NOON + 86_400))
    assert log.close()
    days = {path.parent.name for path in tmp_path.rglob("*.parquet")}
    assert days == {"date=2023-11-14", "date=2023-11-15"}


def test_a_store_that_is_down_is_retried_under_the_same_key():
    store = Flaky()
    log = log_to(store, flush_rows=1)
    log.add(record(1))
    until(lambda: log.stats().flush_failures >= 1)
    store.down = False
    until(lambda: log.stats().written == 1)
    assert log.close()
    assert len(store.attempts) >= 2
    assert set(store.attempts) == set(store.files)
    assert len(store.files) == 1


def test_memory_is_bounded_in_records_and_drops_are_counted():
    store = Flaky()
    log = log_to(store, flush_rows=2, max_records=5)
    kept = [log.add(record(number)) for number in range(8)]
    assert kept == [True] * 5 + [False] * 3
    assert log.stats().dropped_full == 3
    store.down = False
    assert log.close()
    ids = [
        i for data in store.files.values() for i in pq.read_table(BytesIO(data))["id"].to_pylist()
    ]
    assert ids == [f"id-{number}" for number in range(5)]
    assert log.stats().written == 5


def test_memory_is_bounded_in_bytes():
    log = log_to(Flaky(), max_bytes=record(0).size * 2)
    assert [log.add(record(number)) for number in range(3)] == [True, True, False]
    log.close(0)


def test_what_cannot_be_written_at_shutdown_is_counted():
    log = log_to(Flaky(), flush_rows=1)
    log.add(record(1))
    log.add(record(2))
    assert not log.close(0.1)
    assert log.stats().dropped_shutdown == 2
    assert not log.add(record(3))
    assert log.stats().dropped_shutdown == 3


def test_adding_never_waits_for_the_store():
    released = threading.Event()

    class Hanging:
        def put(self, key: str, data: bytes) -> None:
            released.wait()

    log = log_to(Hanging(), flush_rows=1)
    for number in range(100):
        assert log.add(record(number))
    assert log.stats().queued == 100
    released.set()
    assert log.close()
    assert log.stats().written == 100


@pytest.fixture
def s3(monkeypatch) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield f"http://{host}:{port}"
    server.stop()


def test_s3_is_written_and_a_missing_bucket_is_only_a_delay(s3):
    log = log_to(store_for("s3://predictions/a/b"), flush_rows=1)
    log.add(record(1))
    until(lambda: log.stats().flush_failures >= 1)
    client = boto3.client("s3")
    client.create_bucket(Bucket="predictions")
    until(lambda: log.stats().written == 1)
    assert log.close()
    (entry,) = client.list_objects_v2(Bucket="predictions")["Contents"]
    assert entry["Key"].startswith("a/b/endpoint=e/version=3/date=2023-11-14/")
    body = client.get_object(Bucket="predictions", Key=entry["Key"])["Body"].read()
    assert pq.read_table(BytesIO(body))["id"].to_pylist() == ["id-1"]


def test_locations():
    store = store_for("s3://bucket")
    assert isinstance(store, S3Store)
    assert (store.bucket, store.prefix) == ("bucket", "")
    for bad in ("s3://", "http://host/x", "gs://bucket"):
        with pytest.raises(ValueError, match="use s3://bucket/prefix or a folder"):
            store_for(bad)
