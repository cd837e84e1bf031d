"""The client of HAProxy's runtime API, against a socket that answers as HAProxy does."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulumi_mlops.runtime.router.haproxy import ProxyServer
from pulumi_mlops.runtime.router.haproxy_socket import (
    CommandRefused,
    LiveServer,
    RuntimeSocket,
    difference,
    parse_servers_state,
    parse_stat,
    weight_command,
)
from pulumi_mlops.runtime.router.reconciler import Reconciler

# As HAProxy 2.8.25 answered.
STATE = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl \
srv_check_port srv_check_addr srv_agent_addr srv_agent_port
4 penguins 1 v1-a 127.0.0.1 2 0 9 9 1 15 3 2 6 0 0 0 - 7101 - 0 0 - - 0
4 penguins 2 v2-b 127.0.0.1 2 0 0 0 0 1 0 1 6 0 0 0 - 7102 - 0 0 - - 0
4 penguins 3 v2-c 127.0.0.1 0 1 0 0 0 1 0 0 2 0 0 0 - 7103 - 0 0 - - 0

"""
STAT = """# pxname,svname,qcur,qmax,scur,check_status,check_code,last_chk,check_desc,
penguins,v1-a,0,0,2,L7STS,503,Service Unavailable,Layer7 wrong status,
other,v1-a,0,0,0,L4CON,,"refused, twice",Layer4 connection problem,

"""


@pytest.fixture
def serve() -> Iterator[Callable[..., RuntimeSocket]]:
    """A runtime socket that gives one prepared answer a connection and notes the commands."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as bound:
        path = Path(folder) / "s"
        bound.bind(str(path))
        bound.listen()

        def begin(*answers: str, asked: list[str] | None = None) -> RuntimeSocket:
            def run() -> None:
                for answer in answers:
                    connection, _ = bound.accept()
                    with connection:
                        command = connection.recv(65536).decode()
                        if asked is not None:
                            asked.append(command)
                        connection.sendall(answer.encode())

            threading.Thread(target=run, daemon=True).start()
            return RuntimeSocket(path)

        yield begin


def test_the_state_of_servers() -> None:
    assert parse_servers_state(STATE) == {
        "v1-a": LiveServer("v1-a", "127.0.0.1:7101", 9, up=True, down=False, in_service=True),
        # running, as HAProxy sees it, but no check has passed yet
        "v2-b": LiveServer("v2-b", "127.0.0.1:7102", 0, up=False, down=False, in_service=True),
        "v2-c": LiveServer("v2-c", "127.0.0.1:7103", 0, up=False, down=True, in_service=False),
    }


@pytest.mark.parametrize("answer", ["Can't find backend.\n\n", "", "2\n# be_id\n"])
def test_an_answer_of_another_kind_is_refused(answer: str) -> None:
    with pytest.raises(CommandRefused):
        parse_servers_state(answer)


def test_statistics_by_proxy_and_server() -> None:
    rows = parse_stat(STAT)
    assert rows["penguins", "v1-a"]["check_code"] == "503"
    assert rows["other", "v1-a"]["last_chk"] == "refused, twice"


def test_statistics_of_one_backend(serve: Callable[..., RuntimeSocket]) -> None:
    assert set(serve(STAT).stat("penguins")) == {"v1-a"}


def test_a_refusal_carries_haproxys_words(serve: Callable[..., RuntimeSocket]) -> None:
    with pytest.raises(CommandRefused, match=r"^No such server\.$"):
        serve("\nNo such server.\n\n").do("set server a/b weight 1;set server a/c weight 1")


def test_nobody_answers(tmp_path: Path, serve: Callable[..., RuntimeSocket]) -> None:
    with pytest.raises(FileNotFoundError):
        RuntimeSocket(tmp_path / "none").ask("show info")


@pytest.mark.parametrize("cut_off", ["", STAT[:-1], STAT[:60], STATE[:200], "Server del"])
def test_a_response_that_was_cut_off_is_an_error(
    cut_off: str, serve: Callable[..., RuntimeSocket]
) -> None:
    with pytest.raises(ConnectionResetError):
        serve(cut_off).ask("show info")


def test_the_failures_of_servers_while_haproxy_restarts(
    serve: Callable[..., RuntimeSocket],
) -> None:
    reconciler = Reconciler("penguins", serve(STAT[:60]), drain_seconds=1)
    server = ProxyServer("v2-b", "v2", "127.0.0.1:7102", 9, "/ready")
    assert reconciler.failures([server]).startswith("HAProxy does not respond: ")


def test_adding_begins_with_no_weight(serve: Callable[..., RuntimeSocket]) -> None:
    asked: list[str] = []
    answers = ("Key not found.\n\n", "\n", "New server registered.\n\n", "\n", "\n")
    server = ProxyServer("v2-b", "v2", "127.0.0.1:7102", 9, "/ready")
    serve(*answers, asked=asked).add("penguins", server)
    assert asked[2].startswith("add server penguins/v2-b 127.0.0.1:7102 weight 0 check ")
    assert asked[3:] == ["enable health penguins/v2-b\n", "enable server penguins/v2-b\n"]


def test_removing_waits_for_connections(serve: Callable[..., RuntimeSocket]) -> None:
    busy = "Server still has connections attached to it, cannot remove it.\n\n"
    assert not serve("\n", busy).delete("penguins", "v1-a")
    assert serve("\n", "Server deleted.\n\n", "\n").delete("penguins", "v1-a")
    gone = "No such server.\n\n"
    assert serve(gone, gone, "Key not found.\n\n").delete("penguins", "v1-a")
    with pytest.raises(CommandRefused, match="Permission denied"):
        serve("\n", "Permission denied\n\n").delete("penguins", "v1-a")


@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.tuples(st.integers(0, 256), st.integers(0, 256)), min_size=1
    )
)
def test_weights_never_sum_to_zero_on_the_way(weights: dict[str, tuple[int, int]]) -> None:
    now = {name: before for name, (before, _) in weights.items()}
    after = {name: later for name, (_, later) in weights.items()}
    both = sum(now.values()) and sum(after.values())
    command = weight_command("e", dict(now), after)
    for part in command.split(";") if command else ():
        _, _, server, _, weight = part.split()
        now[server.removeprefix("e/")] = int(weight)
        assert sum(now.values()) or not both
    assert now == after


def test_differences_are_told_in_words() -> None:
    planned = [ProxyServer("v1-a", "v1", "127.0.0.1:1", 9, "/")]
    live = LiveServer("v1-a", "127.0.0.1:1", 9, up=False, down=False, in_service=True)
    assert difference({"v1-a": live}, planned) is None, "health is not a matter of the plan"
    assert difference({}, planned) == "server v1-a is missing"
    assert difference({"v1-a": live, "x": live}, planned) == "server x is left over"
