"""From the prediction log and labels to published windows, over restarts and malformed input."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from .quality_fixtures import START, WINDOW, World, endpoint

CLASSES = ("Adelie", "Gentoo")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def hour(count: int = 40, wrong: int = 4, start: float = START) -> list[Any]:
    """Predictions of one window, spread over it."""
    return [
        (f"{start:.0f}-{index}", start + index * WINDOW / count, {"mass": 1.0 * index}, "Adelie")
        for index in range(count)
    ]


def label_all(world: World, rows: list[Any], wrong: int = 4) -> dict[str, Any]:
    return world.label(
        **{row[0]: "Gentoo" if index < wrong else "Adelie" for index, row in enumerate(rows)}
    )


def test_a_window_with_its_labels_is_final(world: World) -> None:
    rows = hour()
    world.log(rows)
    world.pass_at(START + WINDOW)
    world.clock = START + WINDOW + 5
    assert label_all(world, rows)["accepted"] == 40
    world.pass_at(START + WINDOW + 6)
    (window,) = world.quality()
    assert window["state"] == "open"
    assert window["metrics"] == {}
    world.pass_at(START + 3 * WINDOW)
    (window,) = world.quality()
    assert (window["state"], window["predictions"], window["labels"]) == ("final", 40, 40)
    accuracy = window["metrics"]["accuracy"]
    assert accuracy["value"] == 0.9
    assert accuracy["low"] == pytest.approx(0.7695, abs=1e-4)
    assert accuracy["high"] == pytest.approx(0.9604, abs=1e-4)
    assert window["coverage"] == 1.0


def test_no_result_without_labels(world: World) -> None:
    world.log(hour())
    world.pass_at(START + 5 * WINDOW)
    (window,) = world.quality()
    assert (window["state"], window["metrics"]) == ("waiting", {})


def test_a_window_beyond_the_horizon_is_closed_without_a_result(tmp_path: Path) -> None:
    world = World(tmp_path, endpoint(label_horizon=1))
    world.log(hour())
    world.pass_at(START + 2 * WINDOW)
    later = START + 2 * 86_400
    world.log(hour(start=later))
    world.pass_at(later + WINDOW)
    world.pass_at(later + WINDOW)
    first, second = world.quality()
    assert (first["state"], first["metrics"]) == ("insufficient", {})
    assert second["state"] == "open"


def test_too_few_labels_give_no_result_until_more_arrive(tmp_path: Path) -> None:
    world = World(tmp_path, endpoint(min_coverage=0.5))
    rows = hour()
    world.log(rows)
    world.pass_at(START + WINDOW)
    label_all(world, rows[:10], wrong=0)
    world.pass_at(START + 3 * WINDOW)
    (window,) = world.quality()
    assert (window["state"], window["labels"], window["metrics"]) == ("insufficient", 10, {})
    assert label_all(world, rows[10:])["late"] == 30
    world.pass_at(START + 3 * WINDOW + 1)
    (window,) = world.quality()
    assert (window["state"], window["revision"]) == ("final", 2)


def test_every_label_has_one_outcome(world: World) -> None:
    rows = hour()
    world.log(rows)
    world.pass_at(START + WINDOW)
    first, second, third, *rest = (row[0] for row in rows)
    assert world.label(**{first: "Adelie"})["accepted"] == 1
    assert world.label(**{first: "Adelie"})["repeated"] == 1
    assert world.label(**{first: "Gentoo"})["changed"] == 1
    assert world.label(nobody="Adelie")["pending"] == 1
    received = world.service.accept(
        world.endpoints[0],
        [{"id": second}, {"label": "Adelie"}, {"id": third, "label": "Adelie", "row": -1},
         {"id": third, "species": "Adelie"}, {"id": third, "species": "Adelie"}],
    ).to_json()  # fmt: skip
    assert (received["invalid"], received["accepted"], received["repeated"]) == (3, 1, 1)
    assert [error["index"] for error in received["errors"]] == [0, 1, 2]
    world.label(**dict.fromkeys(rest, "Adelie"))
    world.pass_at(START + 3 * WINDOW)
    assert world.label(**{second: "Adelie"})["late"] == 1
    world.pass_at(START + 2 * 86_400)
    counts = {name: value for name, value in world.counts().items() if name.startswith("labels_")}
    assert counts == {
        "labels_accepted": 39, "labels_repeated": 2, "labels_changed": 1, "labels_pending": 1,
        "labels_invalid": 3, "labels_late": 1, "labels_unknown": 1,
    }  # fmt: skip
    (window,) = world.quality()
    assert (window["labels"], window["revision"]) == (40, 2)
    assert window["metrics"]["accuracy"]["value"] == 39 / 40


def test_a_label_may_arrive_before_its_prediction_is_read(world: World) -> None:
    rows = hour()
    world.clock = START + WINDOW
    assert label_all(world, rows)["pending"] == 40
    world.log(rows)
    world.pass_at(START + 3 * WINDOW)
    (window,) = world.quality()
    assert (window["state"], window["labels"]) == ("final", 40)


def test_a_restart_loses_nothing_and_counts_nothing_twice(world: World) -> None:
    rows = hour()
    world.log(rows[:20])
    world.pass_at(START + WINDOW)
    label_all(world, rows[:20])
    world.restarted()
    world.log(rows[20:])
    world.pass_at(START + WINDOW)
    label_all(world, rows)
    world.restarted()
    world.pass_at(START + 3 * WINDOW)
    before = world.quality()
    world.restarted()
    world.pass_at(START + 3 * WINDOW)
    assert world.quality() == before
    assert before[0]["predictions"] == 40
    assert world.counts()["rows_read"] == 40
    assert world.counts()["labels_repeated"] == 20


def test_a_pass_that_is_interrupted_in_a_file_reads_it_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pulumi_mlops.runtime.quality import ingest  # noqa: PLC0415

    world.log(hour())
    with monkeypatch.context() as patched:

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(ingest, "_sample", killed)
        with pytest.raises(KeyboardInterrupt):
            world.service.one_pass()
    world.restarted()
    assert world.counts() == {}
    world.pass_at(START + WINDOW)
    assert world.counts()["rows_read"] == 40


def test_a_store_that_fails_stops_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.log(hour())

    def refused(key: str) -> None:
        raise OSError("connection refused")

    monkeypatch.setattr(world.service.store, "open", refused)
    world.service.one_pass()
    assert world.service.errors == {"live": "OSError: connection refused"}
    world.clock += 3600
    assert world.service.stale == ["live"]
    monkeypatch.undo()
    world.pass_at(world.clock)
    assert world.service.stale == []
    assert world.counts()["rows_read"] == 40


def test_malformed_rows_and_files_are_counted(world: World) -> None:
    file = world.log([("a", START, {"x": 1}, "Adelie"), ("b", START, {"x": 1}, [[1], [2]]),
                      ("c", START, {"x": 1}, None)])  # fmt: skip
    world.put(str(file.relative_to(world.folder)).replace("000001", "000002"), b"not parquet")
    world.pass_at(START + 10)
    counts = world.counts()
    assert (counts["rows_read"], counts["rows_malformed"], counts["files_unreadable"]) == (1, 2, 1)
    world.pass_at(START + 20)
    assert world.counts() == counts


def test_a_repeated_id_counts_once(world: World) -> None:
    rows = hour()
    world.log(rows)
    world.log(rows[:5])
    world.pass_at(START + WINDOW)
    assert (world.counts()["rows_read"], world.counts()["rows_repeated"]) == (40, 5)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_label_files_of_the_store(world: World, kind: str) -> None:
    import pandas as pd  # noqa: PLC0415

    rows = hour()
    world.log(rows)
    table = pd.DataFrame({"id": [row[0] for row in rows], "species": "Adelie"})
    file = world.folder / f"labels/endpoint=live/today.{kind}"
    file.parent.mkdir(parents=True)
    if kind == "csv":
        table.to_csv(file, index=False)
    else:
        table.to_parquet(file)
    world.pass_at(START + WINDOW)
    world.pass_at(START + WINDOW + 1)
    assert world.counts()["labels_accepted"] == 40
    assert "labels_repeated" not in world.counts()


def test_an_invalid_label_file_is_counted_once(world: World) -> None:
    world.log(hour())
    world.put("labels/endpoint=live/broken.parquet", b"PAR1")
    world.put("labels/endpoint=live/empty.csv", b"")
    world.pass_at(START + WINDOW)
    world.pass_at(START + WINDOW)
    assert world.counts()["files_unreadable"] == 2


def test_slices_have_their_own_metrics(tmp_path: Path) -> None:
    world = World(tmp_path, endpoint(slices=("island",)))
    rows = [
        (f"p{index}", START + index, {"island": "Dream" if index < 10 else "Biscoe"}, "Adelie")
        for index in range(40)
    ]
    world.log(rows)
    world.pass_at(START + 60)
    label_all(world, rows, wrong=5)
    world.pass_at(START + 3 * WINDOW)
    (window,) = world.quality()
    slices = window["slices"]
    assert slices["island=Dream"]["metrics"]["accuracy"]["value"] == 0.5
    assert slices["island=Biscoe"]["metrics"]["accuracy"]["value"] == 1.0


def test_versions_are_apart(world: World) -> None:
    for version, answer in (("3", "Adelie"), ("4", "Gentoo")):
        rows = [(f"{version}-{i}", START + i, {"x": i}, answer) for i in range(30)]
        world.log(rows, version)
        world.pass_at(START + 60)
        world.label(**{row[0]: "Gentoo" for row in rows})
    world.pass_at(START + 3 * WINDOW)
    assert world.quality("3")[0]["metrics"]["accuracy"]["value"] == 0.0
    assert world.quality("4")[0]["metrics"]["accuracy"]["value"] == 1.0


def test_drift_against_the_first_rows(tmp_path: Path) -> None:
    from pulumi_mlops.runtime.quality import results  # noqa: PLC0415

    world = World(tmp_path, endpoint(reference_rows=600))
    draw = random.Random(1)

    def rows(start: float, mean: float) -> list[Any]:
        return [
            (f"{start}-{i}", start + i, {"mass": draw.gauss(mean, 1), "depth": draw.gauss(0, 1)},
             draw.choice(CLASSES))
            for i in range(600)
        ]  # fmt: skip

    world.log(rows(START, 0))
    world.log(rows(START + WINDOW, 0))
    world.log(rows(START + 2 * WINDOW, 1))
    found = []
    for hours in (2, 3):
        world.pass_at(START + hours * WINDOW + 60)
        with world.service.database.reading() as connection:
            (version,) = results.drift(connection, world.endpoints[0])["versions"]
        found.append({each["feature"]: each["drifted"] for each in version["window"]["features"]})
    assert found == [{"depth": False, "mass": False}, {"depth": False, "mass": True}]
    assert version["window"]["dataset_drift_ratio"] == 0.5
    assert version["window"]["prediction"]["drifted"] is False


def test_drift_alpha_is_the_limit_of_the_corrected_p_value(tmp_path: Path) -> None:
    from pulumi_mlops.runtime.quality import results  # noqa: PLC0415

    def mass(name: str, alpha: float) -> dict[str, Any]:
        folder = tmp_path / name
        folder.mkdir()
        world = World(folder, endpoint(reference_rows=600, drift_alpha=alpha))
        draw = random.Random(1)
        for start, mean in ((START, 0.0), (START + WINDOW, 0.1)):
            world.log([
                (f"{start}-{i}", start + i, {"mass": draw.gauss(mean, 1)}, draw.choice(CLASSES))
                for i in range(600)
            ])  # fmt: skip
        world.pass_at(START + 2 * WINDOW + 60)
        with world.service.database.reading() as connection:
            document = results.drift(connection, world.endpoints[0])
        assert document["alpha"] == alpha
        (feature,) = document["versions"][0]["window"]["features"]
        return dict(feature)

    p_value = mass("default", 0.01)["p_value"]
    assert 0 < p_value < 0.9
    assert not mass("lower", p_value * 0.99)["drifted"]
    assert mass("higher", p_value * 1.01)["drifted"]


def test_predictions_and_labels_beyond_the_horizon_are_deleted(tmp_path: Path) -> None:
    import sqlalchemy as sa  # noqa: PLC0415

    from pulumi_mlops.runtime.quality import database as db  # noqa: PLC0415

    world = World(tmp_path, endpoint(label_horizon=1))
    rows = hour()
    world.log(rows)
    world.pass_at(START + WINDOW)
    label_all(world, rows)
    world.pass_at(START + 3 * WINDOW)
    (first,) = world.quality()
    newer = hour(start=START + 3 * 86_400)
    world.log(newer)
    world.pass_at(START + 3 * 86_400 + WINDOW)
    world.pass_at(START + 3 * 86_400 + WINDOW)
    with world.service.database.reading() as connection:
        sizes = [
            connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (db.predictions, db.labels, db.read_files)
        ]
    assert sizes == [40, 0, 1]
    assert world.quality()[0] == first
    assert world.counts().get("labels_unknown", 0) == 0


def test_a_clock_that_jumps_ahead_deletes_nothing(world: World) -> None:
    rows = hour()
    world.log(rows)
    world.pass_at(START + WINDOW)
    world.pass_at(START + 400 * 86_400)
    world.pass_at(START + WINDOW)
    assert label_all(world, rows)["accepted"] == 40


def test_a_file_that_arrives_days_late_is_read_within_an_hour(world: World) -> None:
    now = START + 5 * 86_400
    world.pass_at(now)
    world.log(hour())
    world.pass_at(now + 60)
    assert world.counts() == {}
    world.pass_at(now + 3601)
    assert world.counts()["rows_read"] == 40
