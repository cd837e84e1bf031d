"""The programs of the node, in the order of their start, and their configuration files."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node import STATE
from place import DOMAIN, NODE, Addresses, Place

PAUSE_IMAGE = "mlops.local/pause:1"
DNS_IMAGE = "mlops.local/coredns:1"
PKI, ETC = f"{STATE}/pki", f"{STATE}/etc"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"

Flags = dict[str, str]


@dataclass(frozen=True)
class Component:
    """One program with its flags and environment variables."""

    name: str
    flags: Callable[[Place, Addresses], Flags]
    env: Mapping[str, str] = field(default_factory=dict)

    def command(self, place: Place, addresses: Addresses) -> list[str]:
        options = self.flags(place, addresses)
        return [self.name, *(f"--{name}={value}" for name, value in options.items())]


def etcd(_place: Place, _addresses: Addresses) -> Flags:
    client, peer = "https://127.0.0.1:2379", "https://127.0.0.1:2380"
    flags = {
        "data-dir": "/var/lib/etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "logger": "zap",
        "log-outputs": "stderr",
    }
    for prefix in ("", "peer-"):
        flags |= {
            f"{prefix}cert-file": f"{PKI}/etcd.crt",
            f"{prefix}key-file": f"{PKI}/etcd.key",
            f"{prefix}trusted-ca-file": f"{PKI}/etcd-ca.crt",
            f"{prefix}client-cert-auth": "true",
        }
    return flags


def containerd(_place: Place, _addresses: Addresses) -> Flags:
    return {"config": f"{ETC}/containerd.toml"}


def apiserver(_place: Place, addresses: Addresses) -> Flags:
    return {
        "etcd-servers": "https://127.0.0.1:2379",
        "etcd-cafile": f"{PKI}/etcd-ca.crt",
        "etcd-certfile": f"{PKI}/apiserver-to-etcd.crt",
        "etcd-keyfile": f"{PKI}/apiserver-to-etcd.key",
        "bind-address": "0.0.0.0",  # noqa: S104 - only in the network of the node
        "advertise-address": addresses.node,
        "secure-port": "6443",
        "tls-cert-file": f"{PKI}/apiserver.crt",
        "tls-private-key-file": f"{PKI}/apiserver.key",
        "client-ca-file": f"{PKI}/ca.crt",
        "kubelet-certificate-authority": f"{PKI}/ca.crt",
        "kubelet-client-certificate": f"{PKI}/apiserver-to-kubelet.crt",
        "kubelet-client-key": f"{PKI}/apiserver-to-kubelet.key",
        "kubelet-preferred-address-types": "InternalIP",
        "requestheader-client-ca-file": f"{PKI}/front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": f"{PKI}/front-proxy.crt",
        "proxy-client-key-file": f"{PKI}/front-proxy.key",
        "service-account-issuer": f"https://kubernetes.default.svc.{DOMAIN}",
        "service-account-key-file": f"{PKI}/accounts.pub",
        "service-account-signing-key-file": f"{PKI}/accounts.key",
        "service-cluster-ip-range": str(addresses.services),
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",  # pod security of the namespaces decides
        "profiling": "false",
    }


def controller_manager(_place: Place, addresses: Addresses) -> Flags:
    return {
        "kubeconfig": f"{ETC}/controller-manager.kubeconfig",
        "authentication-kubeconfig": f"{ETC}/controller-manager.kubeconfig",
        "authorization-kubeconfig": f"{ETC}/controller-manager.kubeconfig",
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
        "use-service-account-credentials": "true",
        "service-account-private-key-file": f"{PKI}/accounts.key",
        "root-ca-file": f"{PKI}/ca.crt",
        "cluster-signing-cert-file": f"{PKI}/ca.crt",
        "cluster-signing-key-file": f"{PKI}/ca.key",
        "requestheader-client-ca-file": f"{PKI}/front-proxy-ca.crt",
        "cluster-cidr": str(addresses.pods),
        "flex-volume-plugin-dir": "/var/lib/kubelet/volume-plugins",
        "profiling": "false",
    }


def scheduler(_place: Place, _addresses: Addresses) -> Flags:
    return {
        "kubeconfig": f"{ETC}/scheduler.kubeconfig",
        "authentication-kubeconfig": f"{ETC}/scheduler.kubeconfig",
        "authorization-kubeconfig": f"{ETC}/scheduler.kubeconfig",
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
        "profiling": "false",
    }


def kubelet(_place: Place, addresses: Addresses) -> Flags:
    return {
        "kubeconfig": f"{ETC}/kubelet.kubeconfig",
        "config": f"{ETC}/kubelet.json",
        "hostname-override": NODE,
        "node-ip": addresses.node,
        "root-dir": "/var/lib/kubelet",
    }


def proxy(_place: Place, addresses: Addresses) -> Flags:
    return {
        "kubeconfig": f"{ETC}/proxy.kubeconfig",
        "hostname-override": NODE,
        "proxy-mode": "iptables",
        "cluster-cidr": str(addresses.pods),
        "iptables-localhost-nodeports": "false",
        "metrics-bind-address": "127.0.0.1",
        # The limits of connection tracking belong to the machine and must not change.
        "conntrack-max-per-core": "0",
        "conntrack-tcp-timeout-established": "0s",
        "conntrack-tcp-timeout-close-wait": "0s",
    }


def volumes(_place: Place, _addresses: Addresses) -> Flags:
    return {
        "kubeconfig": f"{ETC}/volumes.kubeconfig",
        "folder": "/var/lib/volumes",
        "node": NODE,
    }


def policies(_place: Place, _addresses: Addresses) -> Flags:
    return {"kubeconfig": f"{ETC}/policies.kubeconfig"}


def metrics_server(_place: Place, addresses: Addresses) -> Flags:
    return {
        "kubeconfig": f"{ETC}/metrics.kubeconfig",
        "authentication-kubeconfig": f"{ETC}/metrics.kubeconfig",
        "authorization-kubeconfig": f"{ETC}/metrics.kubeconfig",
        "bind-address": addresses.node,
        "secure-port": "4443",
        "tls-cert-file": f"{PKI}/metrics-server.crt",
        "tls-private-key-file": f"{PKI}/metrics-server.key",
        "kubelet-certificate-authority": f"{PKI}/ca.crt",
        "kubelet-preferred-address-types": "InternalIP",
        "kubelet-use-node-status-port": "true",
        "metric-resolution": "15s",
    }


COMPONENTS = [
    Component("etcd", etcd),
    Component("containerd", containerd),
    Component("kube-apiserver", apiserver),
    Component("kube-controller-manager", controller_manager),
    Component("kube-scheduler", scheduler),
    Component("kubelet", kubelet),
    Component("kube-proxy", proxy),
    Component("node-volumes", volumes),
    Component("node-policies", policies),
    Component("metrics-server", metrics_server),
]
WITH_OWN_ROLES = {"node-volumes", "node-policies", "metrics-server"}
CLIENTS = ["controller-manager", "scheduler", "kubelet", "proxy", "volumes", "policies", "metrics"]


def configure(place: Place, addresses: Addresses) -> None:
    """Write the configuration files of all programs."""
    place.etc.mkdir(mode=0o700, exist_ok=True)
    (place.etc / "cni").mkdir(exist_ok=True)
    (place.etc / "containerd.toml").write_text(containerd_config())
    (place.etc / "cni" / "10-bridge.conflist").write_text(json.dumps(bridge(addresses), indent=1))
    (place.etc / "kubelet.json").write_text(json.dumps(kubelet_config(place, addresses), indent=1))
    for client in CLIENTS:
        private(place.etc / f"{client}.kubeconfig", kubeconfig(place, addresses, client))
    private(place.kubeconfig, kubeconfig(place, addresses, "admin"))


def private(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)


def kubeconfig(place: Place, addresses: Addresses, client: str) -> str:
    """The kubeconfig of one client with its keys, as JSON, which is valid YAML."""

    def data(name: str) -> str:
        return base64.b64encode((place.pki / name).read_bytes()).decode()

    server = {"server": addresses.server, "certificate-authority-data": data("ca.crt")}
    user = {
        "client-certificate-data": data(f"{client}.crt"),
        "client-key-data": data(f"{client}.key"),
    }
    context = {"cluster": place.name, "user": client}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": place.name, "cluster": server}],
            "users": [{"name": client, "user": user}],
            "contexts": [{"name": place.name, "context": context}],
            "current-context": place.name,
        },
        indent=1,
    )


def containerd_config() -> str:
    # restrict_oom_score_adj: a sandbox requests a lower score than that of this process. If the
    # machine is itself a container, even root may not set it.
    # enable_unprivileged_ports: the DNS pod listens on port 53, as policies expect.
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{ETC}/cni"
"""


def bridge(addresses: Addresses) -> dict[str, Any]:
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods",
                "isGateway": True,
                "hairpinMode": True,
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni",  # deleted with the node, as the pods are
                    "ranges": [[{"subnet": str(addresses.pods)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet_config(place: Place, addresses: Addresses) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": addresses.node,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{PKI}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{PKI}/kubelet-server.crt",
        "tlsPrivateKeyFile": f"{PKI}/kubelet-server.key",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [addresses.dns_service],
        "clusterDomain": DOMAIN,
        "resolvConf": "",  # the node cannot reach the machine's name servers
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "serializeImagePulls": False,
        "imageGCHighThresholdPercent": 100,  # images cannot be pulled again
        # The disk of a developer is often nearly full. This must not evict pods.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
    }
