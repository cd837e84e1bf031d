"""The certificate authorities of the cluster, and the certificates that they sign."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from place import DOMAIN, NODE, Addresses

YEARS = 5
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
ROLES = {
    # file: (common name, group), as in the default role bindings of Kubernetes
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    "proxy": ("system:kube-proxy", ""),
    "volumes": ("pulumi-mlops:node-volumes", ""),
    "policies": ("pulumi-mlops:node-policies", ""),
    "metrics": ("pulumi-mlops:metrics-server", ""),
    "apiserver-to-kubelet": ("kube-apiserver-kubelet-client", "system:masters"),
}


@dataclass(frozen=True)
class Authority:
    """A certificate authority: its certificate and its private key."""

    certificate: x509.Certificate
    key: Key


def write_all(folder: Path, addresses: Addresses) -> None:
    """Create all keys and certificates once. The last file marks that they are complete."""
    if (folder / "complete").exists():
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    cluster = authority(folder, "ca", "cluster")
    for name, (common, group) in ROLES.items():
        signed(folder, name, cluster, common, group=group)
    signed(folder, "apiserver", cluster, "kube-apiserver", names=api_names(addresses))
    signed(folder, "kubelet-server", cluster, NODE, names=[NODE, addresses.node])
    metrics = "metrics-server.kube-system.svc"
    signed(folder, "metrics-server", cluster, "metrics-server", names=[metrics])
    etcd = authority(folder, "etcd-ca", "etcd")
    signed(folder, "etcd", etcd, "etcd", names=["localhost", "127.0.0.1"])
    signed(folder, "apiserver-to-etcd", etcd, "kube-apiserver")
    front = authority(folder, "front-proxy-ca", "front-proxy")
    signed(folder, "front-proxy", front, "front-proxy-client")
    accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    write_key(folder / "accounts.key", accounts)
    (folder / "accounts.pub").write_bytes(
        accounts.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    (folder / "complete").touch()


def api_names(addresses: Addresses) -> list[str]:
    """The names and addresses of the API server for the machine, the node and pods."""
    service = "kubernetes.default.svc"
    return [
        *("kubernetes", "kubernetes.default", service, f"{service}.{DOMAIN}", "localhost"),
        *("127.0.0.1", addresses.node, addresses.api_service),
    ]


def authority(folder: Path, name: str, common: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = named(f"pulumi-mlops {common}")
    certificate = (
        started(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write(folder, name, certificate, key)
    return Authority(certificate, key)


def signed(
    folder: Path,
    name: str,
    issuer: Authority,
    common: str,
    *,
    group: str = "",
    names: Sequence[str] = (),
) -> None:
    """Create a key and certificate for a client, and with `names` also for a server."""
    key = ec.generate_private_key(ec.SECP256R1())
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = started(named(common, group), issuer.certificate.subject, key)
    if names:
        uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(
            x509.SubjectAlternativeName([alternative(each) for each in names]), critical=False
        )
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()),
            critical=False,
        )
        .sign(issuer.key, hashes.SHA256())
    )
    write(folder, name, certificate, key)


def started(subject: x509.Name, issuer: x509.Name, key: Key) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
    )


def usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def named(common: str, group: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if group:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)


def alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def write(folder: Path, name: str, certificate: x509.Certificate, key: Key) -> None:
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    write_key(folder / f"{name}.key", key)


def write_key(file: Path, key: Key) -> None:
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
