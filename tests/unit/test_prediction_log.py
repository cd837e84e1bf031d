"""The prediction log against real stores: a folder, S3 (moto), and ones that fail."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO

import boto3
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from pulumi_mlops.runtime.prediction_log import (
    FolderStore,
    PredictionLog,
    Record,
    S3Store,
    store_for,
)
from pulumi_mlops.runtime.prediction_spool import Spool

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
from pulumi_mlops.runtime.prediction_log import FolderStore, PredictionLog, Record
log = PredictionLog(FolderStore(Path(sys.argv[1])), endpoint="e", model="m", version="3",
                    flush_seconds=60, flush_rows=40, spool=Path(sys.argv[2]))
for number in range(100):
    log.add(Record(f"id-{number}", 1_700_000_000.0 + number, b'{"x":[1]}', b'["a"]', 0.25))
if sys.argv[3] == "written":  # the third file is, but its segment is not deleted
    log._store.put(log._key(log._segments[-1].records[0], log._segments[-1].name), b"")
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


def test_the_spool_is_bounded(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.segment").write_bytes(bytes(100))
        os.utime(tmp_path / f"{number}.segment", (number, number))
    assert [name for name, _, _ in Spool(tmp_path, 250).leftover()] == ["2", "3"]
    assert len(list(tmp_path.iterdir())) == 2


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
