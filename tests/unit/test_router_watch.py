"""Lists and watches of a cluster's API, against a server that speaks as it does."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import certifi
import pytest

from pulumi_mlops.runtime.router import watch
from pulumi_mlops.runtime.router.watch import InClusterApi, server_addresses

Manifest = dict[str, Any]


class Enough(Exception):
    """Ends what would follow for ever."""


class Api:
    """Gives a prepared answer a request, and notes what it was asked."""

    def __init__(self, url: str, account: Path) -> None:
        self.url, self.account = url, account
        self.answers: list[tuple[int, list[Any]]] = []
        self.asked: list[tuple[str, dict[str, str], str]] = []
        self.taken: list[list[str]] = []
        self.took = threading.Event()

    def follow(self, times: int, meanwhile: Callable[[int], None] = lambda _: None) -> list[Any]:
        """What was taken, until it was so for the last time."""

        def take(objects: dict[str, Manifest]) -> None:
            self.taken.append([f"{name} {each['x']}" for name, each in sorted(objects.items())])
            self.took.set()
            meanwhile(len(self.taken))
            if len(self.taken) == times:
                raise Enough

        with pytest.raises(Enough):
            InClusterApi(self.url, self.account).follow(
                "/api/v1/things", {"fieldSelector": "a=b"}, take
            )
        return self.taken


def thing(name: str, x: int) -> Manifest:
    return {"metadata": {"name": name}, "x": x}


def listed(version: str, *things: Manifest) -> tuple[int, list[Any]]:
    return 200, [{"metadata": {"resourceVersion": version}, "items": list(things)}]


def changes(*events: Any) -> tuple[int, list[Any]]:
    return 200, [
        each if callable(each) else {"type": each[0], "object": each[1]} for each in events
    ]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    shutil.copy(certifi.where(), tmp_path / "ca.crt")
    (tmp_path / "token").write_text("token-1")
    monkeypatch.setattr(watch, "_RETRY_SECONDS", 0)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {key: value[0] for key, value in parse_qs(parts.query).items()}
            made.asked.append((parts.path, query, self.headers["authorization"]))
            status, lines = made.answers.pop(0) if made.answers else (200, [])
            self.send_response(status)
            self.end_headers()
            for line in lines:
                if callable(line):
                    line()
                else:
                    text = line if isinstance(line, str) else json.dumps(line)
                    self.wfile.write(text.encode() + b"\n")

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    made = Api(f"http://127.0.0.1:{server.server_port}", tmp_path)
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    yield made
    server.shutdown()
    server.server_close()
    serving.join()


def test_changes_are_taken_as_they_come(api: Api) -> None:
    def until_taken() -> None:
        # The next line is written once the one before has arrived.
        api.took.wait()
        api.took.clear()

    api.answers = [
        listed("7", thing("a", 1)),
        changes(
            until_taken, ("ADDED", thing("b", 1)), until_taken, ("MODIFIED", thing("a", 2)),
            until_taken, ("DELETED", thing("b", 1)), until_taken,
        ),
    ]  # fmt: skip
    assert api.follow(4) == [["a 1"], ["a 1", "b 1"], ["a 2", "b 1"], ["a 2"]]
    (first, watched) = api.asked
    assert first == ("/api/v1/things", {"fieldSelector": "a=b"}, "Bearer token-1")
    assert watched[1].items() >= {
        "fieldSelector": "a=b", "watch": "1", "resourceVersion": "7",
    }.items()  # fmt: skip


def test_a_bookmark_changes_nothing(api: Api) -> None:
    api.answers = [listed("7", thing("a", 1)), changes(("BOOKMARK", thing("", 0)))]
    assert api.follow(2) == [["a 1"], ["a 1"]]


def test_a_watch_that_ends_begins_anew(api: Api) -> None:
    api.answers = [listed("7", thing("a", 1)), changes(), listed("8", thing("b", 1))]
    assert api.follow(2) == [["a 1"], ["b 1"]]
    assert "watch" not in api.asked[2][1]


@pytest.mark.parametrize(
    "gone",
    [
        changes(("ERROR", {"kind": "Status", "code": 410})),
        (410, [{"kind": "Status", "code": 410}]),
        (500, ["<html>"]),
        (200, ["no JSON"]),
        (200, [{"type": "ADDED"}]),
    ],
    ids=["410-event", "410", "500", "no-json", "no-object"],
)
def test_what_went_wrong_is_listed_again(api: Api, gone: Any) -> None:
    api.answers = [listed("7", thing("a", 1)), gone, listed("9", thing("a", 2))]
    assert api.follow(2) == [["a 1"], ["a 2"]]


ERROR_EVENT = changes(("ERROR", {"kind": "Status", "code": 410, "message": "too old"}))


@pytest.mark.parametrize("ending", [ERROR_EVENT, changes()], ids=["error-event", "ends-at-once"])
def test_pause_before_the_next_list_doubles(
    api: Api, ending: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, a watch that ends at once lists in a busy loop."""
    monkeypatch.setattr(watch, "_RETRY_SECONDS", 1.0)
    pauses: list[float] = []

    class Pause(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return False

    monkeypatch.setattr(watch, "threading", SimpleNamespace(Event=Pause))
    api.answers = [listed("1", thing("a", 1)), ending] * 8
    api.follow(8)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_change_resets_the_pause(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_RETRY_SECONDS", 1.0)
    pauses: list[float] = []
    real = threading.Event

    class Pause(real):  # type: ignore[misc, valid-type]
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return False

    monkeypatch.setattr(watch, "threading", SimpleNamespace(Event=Pause))
    begin = listed("1", thing("a", 1))
    event = changes(("MODIFIED", thing("a", 2)), ("ERROR", {"message": "too old"}))
    api.answers = [begin, ERROR_EVENT, begin, ERROR_EVENT, begin, event, begin]
    api.follow(5)
    assert pauses == [1, 2, 1]


@pytest.mark.parametrize(
    "answer", [(403, [{"message": "no"}]), (503, []), (200, [{}]), (200, ["<html>"])]
)
def test_a_list_that_fails_is_asked_for_again(api: Api, answer: Any, capsys: Any) -> None:
    api.answers = [answer, listed("1", thing("a", 1))]
    assert api.follow(1) == [["a 1"]]
    told = capsys.readouterr().out
    assert told.startswith("the cluster's API: ")
    assert "token-1" not in told


def test_a_list_may_have_nothing(api: Api) -> None:
    api.answers = [(200, [{"metadata": {"resourceVersion": "1"}, "items": None}])]
    assert api.follow(1) == [[]]


def test_the_token_is_read_each_time(api: Api) -> None:
    """The cluster renews it, and for a moment it may not be there."""

    def renew(times: int) -> None:
        token = api.account / "token"
        if times == 1:
            token.unlink()
            threading.Timer(0.05, token.write_text, args=("token-2",)).start()

    api.answers = [listed("1", thing("a", 1)), listed("2", thing("a", 2))]
    assert api.follow(2, renew) == [["a 1"], ["a 2"]]
    assert [token for _, _, token in api.asked] == ["Bearer token-1", "Bearer token-2"]


def test_one_that_does_not_answer_is_asked_again(tmp_path: Path, api: Api, capsys: Any) -> None:
    url, api.url = api.url, "http://127.0.0.1:9"
    api.answers = [listed("1", thing("a", 1))]
    cluster = InClusterApi(api.url, api.account)
    asked = []

    def headers() -> dict[str, str]:
        asked.append(1)
        if len(asked) == 3:
            cluster._client.base_url = url  # type: ignore[assignment]
        return {"authorization": "Bearer x"}

    cluster._headers = headers  # type: ignore[method-assign]

    def take(objects: dict[str, Manifest]) -> None:
        raise Enough

    with pytest.raises(Enough):
        cluster.follow("/api/v1/things", {}, take)
    assert len(asked) >= 3
    assert "the cluster's API: " in capsys.readouterr().out


# What slices say


def piece(service: str | None, *endpoints: Manifest) -> Manifest:
    labels = {} if service is None else {"kubernetes.io/service-name": service}
    return {"metadata": {"labels": labels}, "endpoints": list(endpoints)}


def endpoint(*addresses: str, **conditions: bool) -> Manifest:
    return {"addresses": list(addresses), "conditions": conditions}


def test_ready_pods_by_service() -> None:
    slices = {
        "a-1": piece("a", endpoint("10.0.0.1", ready=True), endpoint("10.0.0.2", ready=False)),
        "a-2": piece("a", endpoint("10.0.0.3", ready=True, serving=True, terminating=False)),
        "a-3": piece("a", endpoint("10.0.0.4", ready=False, serving=True, terminating=True)),
        "b-1": piece("b", endpoint("10.0.0.5"), {"addresses": ["10.0.0.6"]}),
        "c-1": {"metadata": {"labels": {"kubernetes.io/service-name": "c"}}, "endpoints": None},
        "d-1": {"metadata": {}},
    }
    assert server_addresses(slices) == {
        "a": frozenset({"10.0.0.1", "10.0.0.3"}),
        "b": frozenset({"10.0.0.5", "10.0.0.6"}),
    }


def test_where_no_pod_is_ready_those_that_stay_are_checked_by_haproxy_alone() -> None:
    """A kubelet that was restarted calls every pod of its node unready for a moment."""
    slices = {
        "a-1": piece("a", endpoint("10.0.0.1", ready=False), endpoint("10.0.0.2", ready=False)),
        "a-2": piece("a", endpoint("10.0.0.3", ready=False, serving=True, terminating=True)),
        "b-1": piece("b", endpoint("10.0.0.4", ready=False, terminating=True)),
    }
    assert server_addresses(slices) == {"a": frozenset({"10.0.0.1", "10.0.0.2"})}
