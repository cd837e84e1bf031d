"""The pieces of manifests: names, ports, probes, and the shell that hands a job's outputs on."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulumi_mlops.targets.kubernetes import manifests, names, programs
from pulumi_mlops.targets.port import EnvironmentHandle, Health, ServiceSpec

LABEL = re.compile("[a-z]([a-z0-9-]*[a-z0-9])?")


@given(st.text(), st.integers(20, 63))
def test_any_name_becomes_a_label(name: str, longest: int) -> None:
    made = names.label(name, longest)
    assert LABEL.fullmatch(made)
    assert len(made) <= longest
    assert made == names.label(name, longest)


@given(st.from_regex(LABEL, fullmatch=True).filter(lambda name: len(name) <= 63))
def test_what_fits_stays(name: str) -> None:
    assert names.label(name) == name


@given(st.lists(st.text(st.sampled_from("aB-_.1"), min_size=1, max_size=70), unique=True))
def test_names_that_differ_go_on_to_differ(given_: list[str]) -> None:
    made = [names.label(name) for name in given_]
    assert len(set(made)) == len(made)


def test_long_names_keep_their_beginning() -> None:
    one, other = (names.label(f"{'long-' * 20}{end}") for end in "ab")
    assert one != other
    assert len(one) == 63
    assert one[:54] == other[:54] == ("long-" * 20)[:54].rstrip("-")


def test_ports_have_variables() -> None:
    assert names.variable("http") == "PORT_HTTP"
    assert names.variable("filer-grpc") == "PORT_FILER_GRPC"


@given(st.dictionaries(st.text(min_size=1), st.none() | st.integers(8070, 8090)))
def test_ports_are_free(wanted: dict[str, int | None]) -> None:
    numbers = manifests.port_numbers(wanted)
    assert list(numbers) == list(wanted)
    chosen = [number for name, number in numbers.items() if wanted[name] is None]
    assert len(set(chosen)) == len(chosen)
    assert not set(chosen) & set(wanted.values())
    for name, number in wanted.items():
        assert number is None or numbers[name] == number


def test_variables_come_in_an_order_in_which_they_can_be_used() -> None:
    first = manifests.base_environment({"http": 8080, "grpc": 8081}, data=True, files=True)
    env = manifests.environment({"B": "$(DATA_DIR)/b", "A": "1"}, ["KEY"], "the-secret", first)
    assert [each["name"] for each in env] == [
        "HOST", "POD", "RUNTIME_DIR", "PORT", "PORT_HTTP", "PORT_GRPC", "DATA_DIR", "FILES_DIR",
        "A", "B", "KEY",
    ]  # fmt: skip
    assert env[-1] == {
        "name": "KEY", "valueFrom": {"secretKeyRef": {"name": "the-secret", "key": "KEY"}},
    }  # fmt: skip


def test_only_a_routed_service_has_a_spool_and_it_ends_with_the_pod() -> None:
    environment = EnvironmentHandle(version="1", native=None)
    for routed in (True, False):
        spec = ServiceSpec(command=["true"], environment=environment, routed=routed)
        variables = programs.service_environment(spec, {"http": 8080}, "a.b.svc")
        env = {each["name"]: each.get("value") for each in variables}
        assert env.get("SPOOL_DIR") == ("/tmp/spool" if routed else None)
        assert "SPOOL_SHARED" not in env


@pytest.mark.parametrize("timeout", [0.1, 1, 179.5, 86400])
def test_a_service_has_the_time_to_start_that_was_asked_for(timeout: float) -> None:
    probes = manifests.probes(Health(path="/ready", timeout=timeout), {"http": 8080})
    start = probes["startupProbe"]
    assert start["httpGet"] == {"path": "/ready", "port": 8080}
    assert start["failureThreshold"] >= 1
    assert abs(start["failureThreshold"] * start["periodSeconds"] - timeout) <= 2
    # A server that is busy is not started anew: its port is open.
    assert "httpGet" not in probes["livenessProbe"]


def test_an_open_port_is_enough_without_a_path() -> None:
    probes = manifests.probes(Health(port="grpc"), {"http": 8080, "grpc": 8081})
    assert {str(probe["tcpSocket"]) for probe in probes.values()} == {"{'port': 8081}"}


@pytest.mark.parametrize("timeout", [0.2, 1, 59.9])
def test_a_job_has_at_least_a_second(timeout: float) -> None:
    spec = manifests.job({"metadata": {}, "spec": {}}, timeout)
    assert spec["activeDeadlineSeconds"] >= timeout
    assert spec["activeDeadlineSeconds"] == int(spec["activeDeadlineSeconds"])


def test_a_changed_content_means_new_pods() -> None:
    labels = manifests.labels("stack", "name", "service")
    one, other = (manifests.template(labels, {}, version) for version in ("1", "2"))
    assert one != other
    assert one["metadata"]["labels"] == other["metadata"]["labels"] == labels
    assert "annotations" not in manifests.template(labels, {})["metadata"]


def test_selectors_leave_out_what_may_change() -> None:
    labels = manifests.labels("stack", "name", "service")
    changed = {**labels, "app.kubernetes.io/component": "x", "app.kubernetes.io/part-of": "y"}
    assert manifests.selector(labels) == manifests.selector(changed)
    assert manifests.selector(labels).items() <= labels.items()
    assert manifests.selector(labels) != manifests.selector(
        manifests.labels("a", "name", "service")
    )


# The shell around a job's command

Run = Callable[..., subprocess.Popen[str]]
SHELLS = [found for name in ("dash", "bash", "busybox") if (found := shutil.which(name))]


@pytest.fixture(params=SHELLS, ids=lambda path: Path(path).name)
def run(request: Any, tmp_path: Path) -> Iterator[Run]:
    """Starts a Python program as a job's container would, its termination log in `tmp_path`."""
    started: list[subprocess.Popen[str]] = []
    shell = [request.param, "sh"] if request.param.endswith("busybox") else [request.param]

    def begin(program: str) -> subprocess.Popen[str]:
        command = manifests.entrypoint(
            [sys.executable, "-c", program], termination_log=str(tmp_path / "log")
        )
        assert command[0] == "sh"
        started.append(
            subprocess.Popen(
                [*shell, *command[1:]],
                env={**os.environ, "MLOPS_OUTPUTS": str(tmp_path / "outputs")},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                start_new_session=True,
            )
        )  # fmt: skip
        return started[-1]

    yield begin
    for each in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(each.pid, signal.SIGKILL)  # what it started holds its pipes
        each.communicate()


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_the_exit_code_is_kept(run: Run, code: int, tmp_path: Path) -> None:
    process = run(f"print('out'); raise SystemExit({code})")
    assert process.communicate() == ("out\n", "")
    assert process.returncode == code
    assert not (tmp_path / "log").exists()


def test_outputs_become_the_message(run: Run, tmp_path: Path) -> None:
    process = run("import os; open(os.environ['MLOPS_OUTPUTS'], 'w').write('{\"version\": \"1\"}')")
    assert process.communicate() == ("", "")
    assert process.returncode == 0
    assert (tmp_path / "log").read_text() == '{"version": "1"}'


def test_arguments_arrive_as_they_are(tmp_path: Path) -> None:
    odd = ["a b", "$HOME", "'\"", "", "-x", "*"]
    program = "import sys; print(sys.argv[1:])"
    command = manifests.entrypoint([sys.executable, "-c", program, *odd])
    done = subprocess.run(command, env={"MLOPS_OUTPUTS": "/none", "PATH": os.environ["PATH"]},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.strip() == str(odd)


CATCHES = """
import os, signal, time
def end(*_):
    time.sleep(0.2)
    open(os.environ["MLOPS_OUTPUTS"], "w").write("ended")
    os._exit(7)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    time.sleep(0.01)  # not signal.pause(), which misses a signal that comes just before it
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handed_on_and_waited_out(run: Run, number: int, tmp_path: Path) -> None:
    process = run(CATCHES)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.wait() == 7
    assert (tmp_path / "log").read_text() == "ended"


def test_a_program_that_ends_at_once_when_told_keeps_its_exit_code(run: Run) -> None:
    program = CATCHES.replace("time.sleep(0.2)", "")
    for _ in range(10):
        process = run(program)
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 7


STAYS = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: print("told", flush=True))
print("ready", flush=True)
while not os.path.exists(os.environ["MLOPS_OUTPUTS"]):
    time.sleep(0.01)
raise SystemExit(3)
"""


def test_one_that_goes_on_is_waited_for(run: Run, tmp_path: Path) -> None:
    process = run(STAYS)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "told\n"
    assert process.poll() is None
    (tmp_path / "outputs").write_text("{}")
    assert process.wait() == 3


def test_one_that_a_signal_ends_says_so(run: Run) -> None:
    process = run("import time; print('ready', flush=True); time.sleep(600)")
    assert process.stdout is not None
    process.stdout.readline()
    threading.Thread(target=process.send_signal, args=(signal.SIGTERM,)).start()
    assert process.wait() == 128 + signal.SIGTERM


# What runs before a program


def test_a_program_begins_once_something_answers_everywhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.socket() as other:
        other.bind(("127.0.0.1", 0))  # as a Service without a pod: it refuses
        places = [f"127.0.0.1:{each.getsockname()[1]}" for each in (one, other)]
        _, *command = manifests.wait_for_addresses(places)
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told = process.stdout.readline()
        assert told.startswith(f"waits for {places[1]}: ")
        other.listen()
        assert process.wait(30) == 0
        assert process.stdout.read() == "", "the same reason is told once"


def test_what_runs_first_has_bounds_and_reads_one_secret() -> None:
    plain = manifests.init_container("wait", "image", ["true"])
    assert "envFrom" not in plain
    assert plain["resources"]["limits"]["memory"]
    given = manifests.init_container("wait", "image", ["true"], secret="name")
    assert given == {**plain, "envFrom": [{"secretRef": {"name": "name"}}]}
    assert "initContainers" not in manifests.pod([plain])
    assert manifests.pod([plain], init_containers=[given])["initContainers"] == [given]
