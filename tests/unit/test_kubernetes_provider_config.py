"""Which changes of its configuration replace the Kubernetes provider, and with it every object.

The same table is put to the stand-in of the tests and to the official plugin where one is on PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

STANDIN = Path(__file__).parents[1] / "kubernetes" / "provider" / "pulumi-resource-kubernetes"
URN = "urn:pulumi:dev::project::pulumi:providers:kubernetes::kubernetes"
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: one
contexts:
- {name: one, context: {cluster: c1, user: u}}
- {name: two, context: {cluster: c2, user: u}}
clusters:
- {name: c1, cluster: {server: "https://one"}}
- {name: c2, cluster: {server: "https://two"}}
users:
- {name: u, user: {token: t}}
"""
FILES = {
    "a": KUBECONFIG,
    "token": KUBECONFIG.replace("token: t", "token: other"),
    "tls": KUBECONFIG.replace("https://one", 'https://one", tls-server-name: "kubernetes'),
    "away": KUBECONFIG.replace("https://one", "https://elsewhere"),
}
DiffConfig = Callable[[dict[str, str], dict[str, str]], Any]


PROGRAMS = {"stand-in": str(STANDIN)}
if official := shutil.which("pulumi-resource-kubernetes"):
    PROGRAMS["official"] = official


@pytest.fixture(scope="module", params=PROGRAMS)
def diff_config(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DiffConfig]:
    """The plugin's DiffConfig, in a folder that has FILES."""
    folder = tmp_path_factory.mktemp("config")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    running = subprocess.Popen(
        [PROGRAMS[request.param]],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "STANDIN_PYTHON": sys.executable, "KUBECONFIG": "tls"},
    )
    assert running.stdout is not None
    port = running.stdout.readline().decode().strip()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = provider_pb2_grpc.ResourceProviderStub(channel)

        def ask(old: dict[str, str], new: dict[str, str]) -> Any:
            olds, news = Struct(), Struct()
            olds.update(old)
            news.update(new)
            return stub.DiffConfig(provider_pb2.DiffRequest(urn=URN, olds=olds, news=news))

        yield ask
    running.terminate()
    running.wait(10)


IDENTIFIED = {"clusterIdentifier": "x"}


@pytest.mark.parametrize(
    ("old", "new", "replaces"),
    [
        # Without an identifier every difference in the cluster entry replaces.
        ({"kubeconfig": "a"}, {"kubeconfig": "tls"}, ["kubeconfig"]),
        ({"kubeconfig": "a"}, {"kubeconfig": "away"}, ["kubeconfig"]),
        ({"kubeconfig": KUBECONFIG}, {"kubeconfig": FILES["tls"]}, ["kubeconfig"]),
        ({"kubeconfig": "a"}, {"kubeconfig": "a", "context": "two"}, ["context"]),
        ({"kubeconfig": "a"}, {"kubeconfig": "token"}, []),
        ({"kubeconfig": "a"}, {"kubeconfig": "./a"}, []),
        # The environment's kubeconfig is not compared.
        ({"kubeconfig": "a"}, {"kubeconfig": ""}, []),
        ({"kubeconfig": "a"}, {}, []),
        ({}, {"kubeconfig": "a"}, []),
        # What an upgrade to an identifier changes.
        ({"kubeconfig": "a"}, {"kubeconfig": "", **IDENTIFIED}, []),
        ({"kubeconfig": "a"}, {"kubeconfig": "", "clusterIdentifier": rpc.UNKNOWN}, []),
        ({"kubeconfig": "a"}, {"kubeconfig": "tls", **IDENTIFIED}, ["kubeconfig"]),
        # With an identifier it alone decides.
        ({"kubeconfig": "a", **IDENTIFIED}, {"kubeconfig": "tls", **IDENTIFIED}, []),
        ({"kubeconfig": "a", **IDENTIFIED}, {"context": "two", **IDENTIFIED}, []),
        (IDENTIFIED, {"clusterIdentifier": "y"}, ["clusterIdentifier"]),
        (IDENTIFIED, {"clusterIdentifier": rpc.UNKNOWN}, ["clusterIdentifier"]),
        (IDENTIFIED, {}, []),
        # A folder in place of the cluster, and another folder.
        ({}, {"renderYamlToDirectory": "out"}, ["renderYamlToDirectory"]),
        ({"renderYamlToDirectory": "out"}, {"renderYamlToDirectory": "new"},
         ["renderYamlToDirectory"]),
        ({"namespace": "a"}, {"namespace": "b"}, []),
        ({"kubeconfig": "a"}, {"kubeconfig": rpc.UNKNOWN}, ["kubeconfig"]),
    ],
)  # fmt: skip
def test_what_replaces_the_provider(
    diff_config: DiffConfig, old: dict[str, str], new: dict[str, str], replaces: list[str]
) -> None:
    answer = diff_config(old, new)
    assert sorted(answer.replaces) == replaces
    assert answer.changes == provider_pb2.DiffResponse.DIFF_SOME


def test_nothing_changed(diff_config: DiffConfig) -> None:
    same = {"kubeconfig": "a", **IDENTIFIED}
    assert diff_config(same, same).changes == provider_pb2.DiffResponse.DIFF_NONE


def test_a_kubeconfig_of_the_old_settings_that_is_gone_is_an_error(diff_config: DiffConfig) -> None:
    with pytest.raises(grpc.RpcError):
        diff_config({"kubeconfig": "/no/such/file"}, {"kubeconfig": "", **IDENTIFIED})
