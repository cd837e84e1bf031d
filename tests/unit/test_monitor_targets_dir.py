"""Targets from a folder: read again when a file changes, without losing history."""

import json
from pathlib import Path

import pytest

from pulumi_mlops.runtime.monitor.config import ConfigError, load, read_targets
from pulumi_mlops.runtime.monitor.scrape import ScrapeResult
from pulumi_mlops.runtime.monitor.watcher import Watcher


def target(instance: str, port: int = 9000) -> dict[str, str]:
    url = f"http://127.0.0.1:{port}/metrics"
    return {"job": "serving", "instance": instance, "url": url}


def watcher(folder: Path) -> Watcher:
    return Watcher(load({"PORT": "9999", "MLOPS_TARGETS_DIR": str(folder)}))


def test_files_hold_one_target_or_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(target("a")))
    (tmp_path / "b.json").write_text(json.dumps([target("b-0"), target("b-1")]))
    assert [each.instance for each in read_targets(tmp_path)] == ["a", "b-0", "b-1"]


def test_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"job": "x"}')
    with pytest.raises(ConfigError, match=r"a\.json\[0\]\.instance"):
        read_targets(tmp_path)
    with pytest.raises(ConfigError, match=r"MLOPS_TARGETS_DIR.*is not a folder"):
        read_targets(tmp_path / "nowhere")


def test_a_new_file_keeps_the_history_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(target("a")))
    watch = watcher(tmp_path)
    kept = watch.watched[0]
    watch.record(kept, ScrapeResult(state="up", duration_seconds=0.1))
    (tmp_path / "b.json").write_text(json.dumps(target("b")))
    watch._reload_targets()
    assert [each.target.instance for each in watch.watched] == ["a", "b"]
    assert watch.watched[0] is kept


def test_a_target_that_goes_leaves_no_series(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(target("a")))
    (tmp_path / "b.json").write_text(json.dumps(target("b")))
    watch = watcher(tmp_path)
    for each in watch.watched:
        watch.record(each, ScrapeResult(state="down", duration_seconds=0.1, error="refused"))
    assert b'instance="b"' in watch.own_metrics()
    (tmp_path / "b.json").unlink()
    watch._reload_targets()
    assert b'instance="b"' not in watch.own_metrics()
    assert b'instance="a"' in watch.own_metrics()


def test_half_a_change_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(target("a")))
    watch = watcher(tmp_path)
    (tmp_path / "b.json").write_text('{"job":')
    watch._reload_targets()
    assert [each.target.instance for each in watch.watched] == ["a"]
    (tmp_path / "b.json").write_text(json.dumps(target("b")))
    watch._reload_targets()
    assert [each.target.instance for each in watch.watched] == ["a", "b"]
