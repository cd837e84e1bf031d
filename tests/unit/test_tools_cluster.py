"""The parts of the cluster's tool that need no cluster: names, keys, files, refusals."""

import base64
import hashlib
import json
import os
import re
import ssl
import sys
import tarfile
import threading
from ipaddress import IPv4Network
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "shared"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "cluster"))
import binaries
import certificates
import cgroups
import components
import gateway_api
import image
import lifecycle
import packages
import place
import progress
import psutil
from node import Node, namespace

ADDRESSES = place.Addresses(IPv4Network("10.123.0.0/16"))


@pytest.fixture
def here(tmp_path):
    found = place.Place(tmp_path)
    found.folder.mkdir(parents=True)
    return found


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys") / "pki"
    certificates.write_all(folder, ADDRESSES)
    return folder


def test_two_checkouts_share_no_name_and_no_network():
    one, two = place.Place(Path("/srv/one")), place.Place(Path("/srv/two"))

    assert one.name != two.name
    assert len(one.name) <= 15  # of a network link
    first = place.free_network(one.key, [])
    assert place.free_network(one.key, []) == first
    assert not place.free_network(one.key, [first]).overlaps(first)


def test_a_machine_whose_routes_cover_everything_is_told():
    with pytest.raises(progress.ToolError, match="no unused network"):
        place.free_network("00000000", [IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12")])
    assert place.free_network("00000000", [IPv4Network("10.0.0.0/8")]).overlaps(
        IPv4Network("172.16.0.0/12")
    )


def test_a_network_is_remembered_and_refused_once_it_is_taken(here, monkeypatch):
    monkeypatch.setattr(place, "used_networks", lambda own: [])
    addresses = here.addresses()
    monkeypatch.setattr(place, "used_networks", lambda own: [addresses.network])

    assert here.addresses() == addresses
    with pytest.raises(progress.ToolError, match="cluster-down"):
        here.check(addresses)


def test_the_parts_of_a_network_do_not_overlap():
    parts = [ADDRESSES.link, ADDRESSES.services, ADDRESSES.pods]

    assert all(part.subnet_of(ADDRESSES.network) for part in parts)
    assert not any(one.overlaps(two) for one in parts for two in parts if one is not two)


def test_a_server_is_believed_by_those_who_know_the_authority(pki):
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki / "ca.crt")
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")

    assert shake(server, client(pki, "ca", "admin"), ADDRESSES.node) == "admin"
    assert shake(server, client(pki, "ca", "kubelet"), "kubernetes.default.svc") == (
        "system:node:node"
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server, client(pki, "ca", "admin"), "elsewhere")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server, client(pki, "etcd-ca", "admin"), ADDRESSES.node)


def client(pki, authority, name):
    context = ssl.create_default_context(cafile=pki / f"{authority}.crt")
    context.load_cert_chain(pki / f"{name}.crt", pki / f"{name}.key")
    return context


def shake(server, client, name):
    """Let both sides greet each other in memory; the common name that the server sees."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return dict(part[0] for part in sides[1].getpeercert()["subject"])["commonName"]


def test_keys_are_private_and_made_once(pki):
    before = (pki / "ca.crt").read_bytes()
    certificates.write_all(pki, ADDRESSES)

    assert (pki / "ca.crt").read_bytes() == before
    assert {file.stat().st_mode & 0o777 for file in pki.glob("*.key")} == {0o600}


def test_every_client_has_a_kubeconfig_that_verifies(here, pki):
    (here.folder / "pki").symlink_to(pki)
    components.configure(here, ADDRESSES)
    files = [here.kubeconfig, *(here.etc / f"{name}.kubeconfig" for name in components.CLIENTS)]

    for file in files:
        known = json.loads(file.read_text())
        server = known["clusters"][0]["cluster"]
        assert (
            base64.b64decode(server["certificate-authority-data"]) == (pki / "ca.crt").read_bytes()
        )
        assert "insecure-skip-tls-verify" not in server
        assert file.stat().st_mode & 0o777 == 0o600


def test_programs_read_only_files_that_are_written(here, pki):
    (here.folder / "pki").symlink_to(pki)
    components.configure(here, ADDRESSES)
    commands = [each.command(here, ADDRESSES) for each in components.COMPONENTS]
    texts = [" ".join(command) for command in commands]
    texts += [(here.etc / "kubelet.json").read_text(), (here.etc / "containerd.toml").read_text()]

    named = {word.strip('",') for text in texts for word in text.replace("=", " ").split()}
    inside = {word for word in named if word.startswith(components.STATE)}
    assert len(inside) > 20
    for word in inside:
        assert Path(word.replace(components.STATE, str(here.folder))).exists(), word


def test_nothing_is_left_to_fill_in_a_manifest():
    for manifest in (Path(lifecycle.__file__).parent / "manifests").glob("*.yaml"):
        assert "@" not in lifecycle.render(manifest, ADDRESSES, b"certificate")


def test_an_image_holds_what_its_digests_say(tmp_path):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    image.pack(program, "example.local/program:1", tmp_path / "image.tar")

    with tarfile.open(tmp_path / "image.tar") as tar:
        contents = {name: tar.extractfile(name).read() for name in tar.getnames()}
    (entry,) = json.loads(contents["manifest.json"])
    config, layer = contents[entry["Config"]], contents[entry["Layers"][0]]
    assert entry["RepoTags"] == ["example.local/program:1"]
    assert entry["Config"] == f"{hashlib.sha256(config).hexdigest()}.json"
    assert json.loads(config)["rootfs"]["diff_ids"] == [
        f"sha256:{hashlib.sha256(layer).hexdigest()}"
    ]
    # A cluster can see that it does not run as root, without asking the image's files.
    assert json.loads(config)["config"]["User"].partition(":")[0].isdigit()


def test_the_version_is_that_of_the_committed_modules():
    version = binaries.kubernetes_version()

    assert f"k8s.io/kubernetes {version} h1:" in (binaries.HERE / "kube" / "go.sum").read_text()
    assert binaries.pinned_version().startswith(f"{version}-")


def test_a_build_with_a_program_missing_is_not_used(tmp_path):
    version = binaries.pinned_version()
    for name in (*binaries.PROGRAMS, *binaries.STANDALONE_PROGRAMS):
        (tmp_path / name).write_text(
            f"#!/bin/sh\necho Kubernetes {binaries.kubernetes_version()}\n"
        )
        (tmp_path / name).chmod(0o755)

    assert binaries.usable(tmp_path, version)
    (tmp_path / "coredns").unlink()
    assert not binaries.usable(tmp_path, version)


def test_a_gateway_is_that_of_the_committed_modules_and_whole(tmp_path):
    assert re.fullmatch(r"v3\.\d+\.\d+-[0-9a-f]{8}", gateway_api.pinned_version())
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in gateway_api.PROGRAMS:
        (folder / program).write_text("#!/bin/sh\n")
        (folder / program).chmod(0o755)
    assert not gateway_api.usable(folder, "v3.7.13-00000000"), "its definitions are missing"
    (tmp_path / "crds").mkdir()
    for name in ("httproutes", "vap_safeupgrades"):
        (tmp_path / "crds" / f"gateway.networking.k8s.io_{name}.yaml").touch()
    assert gateway_api.usable(folder, "v3.7.13-00000000")
    assert [path.name for path in gateway_api.definitions(folder)] == [
        "gateway.networking.k8s.io_httproutes.yaml"
    ]
    (folder / "echo").unlink()
    assert not gateway_api.usable(folder, "v3.7.13-00000000")


def test_only_root_is_let_in(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(progress.ToolError, match="needs root"):
        packages.ensure()


def test_without_apt_the_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(packages, "missing", lambda: ["etcd-server", "runc"])
    monkeypatch.setattr(packages.shutil, "which", lambda name, **named: None)
    with pytest.raises(progress.ToolError, match=r"apt-get is not available.*etcd-server runc"):
        packages.ensure()


def test_packages_start_nothing_while_they_are_installed(tmp_path, monkeypatch):
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "POLICY", policy)

    with pytest.raises(progress.ToolError), packages.no_services():
        assert "exit 101" in policy.read_text()
        raise progress.ToolError("apt failed")
    assert not policy.exists()

    policy.write_text("the machine's own")
    with packages.no_services():
        pass
    assert policy.read_text() == "the machine's own"


@pytest.mark.parametrize("changed", [None, "pid", "started", "namespace"])
def test_a_process_with_a_recycled_number_is_not_the_holder(here, changed):
    process = psutil.Process()
    known = {
        "pid": process.pid,
        "started": process.create_time(),
        "namespace": namespace(process.pid),
    }
    if changed:
        known[changed] = {"pid": 2**22 + 1, "started": 1.0, "namespace": "pid:[1]"}[changed]
    node = Node(here)
    node.record.write_text(json.dumps(known))

    assert node.holder() == (None if changed else process)


def test_a_control_group_goes_with_those_in_it(tmp_path):
    (tmp_path / "mlops" / "kubepods" / "pod").mkdir(parents=True)
    cgroups.remove_tree(tmp_path / "mlops")
    cgroups.remove_tree(tmp_path / "mlops")

    assert list(tmp_path.iterdir()) == []


def test_the_state_of_another_version_is_refused(here):
    cluster = lifecycle.Cluster(here.checkout)
    cluster.check_version()
    cluster.check_version()
    (here.folder / "version").write_text("v1.0.0-00000000")
    with pytest.raises(progress.ToolError, match="cluster-down"):
        cluster.check_version()


def test_a_program_that_ends_is_named_with_its_last_words(here, monkeypatch):
    cluster = lifecycle.Cluster(here.checkout)
    here.logs.mkdir()
    cluster.log("kubelet").write_text("many lines\nthe reason\n")
    monkeypatch.setattr(cluster, "dead", lambda: ["kubelet"])
    monkeypatch.setattr(lifecycle, "GRACE_SECONDS", 0.1)
    with pytest.raises(progress.ToolError, match=r"(?s)kubelet ended.*the reason"):
        cluster.wait("the node", "kubelet", lambda: False)


def test_what_lasts_is_said(here, monkeypatch, capsys):
    cluster = lifecycle.Cluster(here.checkout)
    ready = threading.Event()
    monkeypatch.setattr(cluster, "dead", lambda: [])
    monkeypatch.setattr(lifecycle, "QUIET_SECONDS", 0.01)
    threading.Timer(0.5, ready.set).start()
    cluster.wait("the node", "kubelet", ready.is_set)

    assert "waiting for the node (" in capsys.readouterr().err


def test_an_image_that_is_not_there_is_named(here):
    with pytest.raises(progress.ToolError, match=r"missing\.tar cannot be read: No such file"):
        lifecycle.Cluster(here.checkout).load(here.checkout / "missing.tar")


def test_without_a_cluster_an_image_has_nowhere_to_go(here, tmp_path):
    (tmp_path / "image.tar").touch()
    with pytest.raises(progress.ToolError, match="make cluster"):
        lifecycle.Cluster(here.checkout).load(tmp_path / "image.tar")


def test_the_cluster_shares_no_folder_with_an_environment(tmp_path):
    found = place.Place(tmp_path)
    assert found.folder == tmp_path / ".cluster"
    environment = tmp_path / ".mlops" / "cluster" / "files"
    environment.mkdir(parents=True)
    assert found.folder == tmp_path / ".cluster"
    # One that an earlier version has started is ended there.
    (environment.parent / "network.json").touch()
    assert found.folder == environment.parent
