"""The settings of the target: `mlops:kubernetes` of the stack configuration."""

from __future__ import annotations

import ipaddress
import re
import typing
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ...images.options import DEFAULT_BASE, DEFAULT_INDEX, BuildOptions, ImageError
from ...sources import from_project
from ...spec import Spec, located
from ..port import stack_settings

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_REGISTRY = re.compile(r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9._/-]*[a-z0-9])?")
_REFERENCE = re.compile(r"(?!.*//)[a-z0-9][\w./:-]*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?", re.ASCII)
_QUANTITY = re.compile(r"(?=[0-9.]*[1-9])[0-9]+(\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LAST_PORT = 65535
# The length limit leaves room for the longest name of an endpoint in a valid host name.
_ENDPOINTS = re.compile(
    r"https?://\*(?=[^:]{2,190}(:|$))(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+"
    r"(:(?P<port>[1-9][0-9]{0,4}))?"
)


class BuildSettings(Spec):
    """How images are built."""

    base: str = Field(
        DEFAULT_BASE,
        description="Base image, with Python. `{python}` is replaced by the Python version. A "
        "digest (`name@sha256:…`) pins the image.",
    )
    system_packages: list[str] = Field(
        [], description="Debian packages that the requirements need, such as `libgomp1`."
    )
    ca: str | None = Field(
        None,
        description="PEM file with the certificates of a private certificate authority. Default: "
        "no additional certificates.",
    )
    index_url: str = Field(
        DEFAULT_INDEX,
        description="URL of the package index. An empty text stands for the default index of pip "
        "and uv.",
    )
    extra_index_urls: list[str] = Field(
        [], description="URLs of further package indexes, which take precedence over `index_url`."
    )
    network: str | None = Field(
        None,
        description="Network of the build, as in `docker build --network`. Default: the container "
        "engine's default.",
    )

    @model_validator(mode="after")
    def _readable_certificates(self) -> typing.Self:
        try:
            self.options().certificates()
        except ImageError as error:
            raise ValueError(str(error)) from None
        return self

    def options(self) -> BuildOptions:
        """The options for the build of images."""
        return BuildOptions(
            base=self.base,
            system_packages=self.system_packages,
            ca=None if self.ca is None else from_project(self.ca),
            index_url=self.index_url,
            extra_index_urls=self.extra_index_urls,
            network=self.network,
        )


class Toleration(Spec):
    """A toleration of pods for a taint of nodes (kubernetes.io, "Taints and Tolerations")."""

    key: str | None = Field(None, description="Key of the taint. Default: every key.")
    operator: typing.Literal["Equal", "Exists"] = Field(
        "Equal", description="Comparison: `Equal` compares the value, `Exists` only the key."
    )
    value: str | None = Field(
        None, description="Value of the taint, with `Equal`. Default: an empty value."
    )
    effect: typing.Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint. Default: every effect."
    )


class Placement(Spec):
    """The nodes and the priority of pods."""

    node_selector: dict[str, str] = Field({}, description="Labels that a node must have.")
    tolerations: list[Toleration] = Field(
        [], description="Tolerations of the pods, such as those for spot or GPU nodes."
    )
    priority_class: str | None = Field(
        None, description="PriorityClass of the pods. Default: the cluster's default."
    )

    def manifest(self) -> dict[str, typing.Any]:
        """The members of a pod's spec."""
        found: dict[str, typing.Any] = {}
        if self.node_selector:
            found["nodeSelector"] = dict(self.node_selector)
        if self.tolerations:
            found["tolerations"] = [each.model_dump(exclude_none=True) for each in self.tolerations]
        if self.priority_class:
            found["priorityClassName"] = self.priority_class
        return found


class Quota(Spec):
    """The ResourceQuota of the namespace."""

    cpu: float | None = Field(
        None, gt=0, description="Sum of the CPU requests of all pods, in cores. Default: no limit."
    )
    memory: str | None = Field(
        None,
        description="Sum of the memory limits of all pods, such as `64Gi`. Default: no limit.",
    )
    gpu: int | None = Field(
        None, ge=0, description="Sum of the GPU requests of all pods. Default: no limit."
    )
    pods: int | None = Field(
        None, ge=1, description="Number of pods that have not terminated. Default: no limit."
    )
    storage: str | None = Field(
        None, description="Sum of the sizes of all volumes, such as `1Ti`. Default: no limit."
    )

    @field_validator("memory", "storage")
    @classmethod
    def _valid_quantity(cls, amount: str | None) -> str | None:
        if amount is not None and not _QUANTITY.fullmatch(amount):
            raise ValueError("must be a quantity, such as `64Gi`")
        return amount

    def manifest(self) -> dict[str, str]:
        """The `hard` member of a ResourceQuota."""
        limits = {
            "requests.cpu": None if self.cpu is None else f"{self.cpu:g}",
            "limits.memory": self.memory,
            "requests.nvidia.com/gpu": None if self.gpu is None else str(self.gpu),
            "pods": None if self.pods is None else str(self.pods),
            "requests.storage": self.storage,
        }
        return {key: value for key, value in limits.items() if value is not None}


class GatewaySettings(Spec):
    """An existing Gateway (gateway-api.sigs.k8s.io). Its owner manages listeners, certificates
    and DNS."""

    name: str = Field(description="Name of the Gateway.")
    namespace: str = Field(
        description="Namespace of the Gateway. It may call the endpoints. If the Gateway's proxies "
        "run in another namespace, add that one to `allow_from`."
    )
    url: str = Field(
        description="URL of the endpoints, with `*` for the name of an endpoint, such as "
        "`https://*.models.example.com`. Each stack that shares a Gateway needs its own domain."
    )
    section_name: str | None = Field(
        None,
        description="Name of the listener. Default: every listener that accepts the host name.",
    )

    @field_validator("name", "section_name")
    @classmethod
    def _valid_object_name(cls, name: str | None) -> str | None:
        if name is not None and not _SUBDOMAIN.fullmatch(name):
            raise ValueError(
                "must be lower-case letters, digits, hyphens and dots: `kubectl get gateways -A` "
                "lists the Gateways, `kubectl describe gateway` the listeners of one"
            )
        return name

    @field_validator("namespace")
    @classmethod
    def _valid_namespace(cls, name: str) -> str:
        if not _LABEL.fullmatch(name):
            raise ValueError("must be the name of a namespace: `kubectl get gateways -A` shows it")
        return name

    @field_validator("url")
    @classmethod
    def _valid_url(cls, url: str) -> str:
        match = _ENDPOINTS.fullmatch(url)
        if match is None or int(match["port"] or 1) > _LAST_PORT:
            raise ValueError(
                "must be http:// or https://, `*` for the name of an endpoint, and a domain in "
                "lower-case letters, such as `https://*.models.example.com`"
            )
        return url

    def hostname(self, endpoint: str) -> str:
        """The host name of an endpoint."""
        return urlsplit(self.endpoint_url(endpoint)).hostname or ""

    def endpoint_url(self, endpoint: str) -> str:
        """The URL of an endpoint."""
        return self.url.replace("*", endpoint)


class KubernetesSettings(Spec):
    """The Kubernetes target: cluster, namespace, images and limits."""

    namespace: str = Field(
        "mlops",
        description="Namespace of the platform. `default` and `kube-*` are not allowed.",
    )
    create_namespace: bool = Field(
        True,
        description="Create the namespace if it does not exist. Only `delete_namespace` deletes "
        "it again.",
    )
    delete_namespace: bool = Field(
        False,
        description="Delete the namespace, with everything in it, when the stack is destroyed.",
    )
    allow_from: list[str] = Field(
        [],
        description="Namespaces, such as that of an ingress controller, and address ranges, such "
        "as `10.1.0.0/16`, that may call the endpoints, the tracking server, the artifact store "
        "and the dashboard. Pods of the platform's namespace always may.",
    )
    gateway: GatewaySettings | None = Field(
        None,
        description="Existing Gateway in front of the endpoints. Default: a proxy for each "
        "endpoint, which is reached only within the cluster.",
    )
    context: str | None = Field(
        None,
        min_length=1,
        description="Context of the kubeconfig. Default: its current context.",
    )
    kubeconfig: str | None = Field(
        None,
        min_length=1,
        description="Path of a kubeconfig. Default: KUBECONFIG, or `~/.kube/config`.",
    )
    render_to: str | None = Field(
        None,
        min_length=1,
        description="Folder for rendered manifests, which Argo CD or Flux applies. A relative path "
        "starts at the folder of Pulumi.yaml. No cluster is accessed. `mlops secrets` prints the "
        "Secrets. An existing stack cannot change it. Default: the objects are applied to the "
        "cluster.",
    )
    registry: str | None = Field(
        None,
        description="Registry and path of the images, such as `registry.example.com/team`. An "
        "image is named `<registry>/<environment>:<digest of its content>`. Default: every image "
        "is in `images`.",
    )
    images: dict[str, str] = Field(
        {},
        description="Existing images by the name of their environment. References by digest are "
        "recommended.",
    )
    build: BuildSettings = Field(
        BuildSettings(), description="How the images that are not in `images` are built."
    )
    storage_class: str | None = Field(
        None,
        description="Storage class of the volumes. An empty text selects volumes that exist "
        "already. Default: the cluster's default storage class.",
    )
    volume_size: str = Field("10Gi", description="Size of a volume, such as `10Gi`.")

    placement: Placement = Field(Placement(), description="Nodes and priority of services.")
    training_placement: Placement | None = Field(
        None, description="Nodes and priority of pipelines. Default: `placement`."
    )
    quota: Quota = Field(Quota(), description="ResourceQuota of the namespace.")

    @model_validator(mode="after")
    def _gateway_or_render_to(self) -> typing.Self:
        if self.gateway is not None and self.render_to is not None:
            message = "is not supported with render_to: requests would reach a new version "
            message += "before its pods are ready: remove gateway, and proxies are used, or remove "
            message += "render_to"
            raise located([(("gateway",), message)])
        return self

    @field_validator("namespace")
    @classmethod
    def _valid_platform_namespace(cls, name: str) -> str:
        if not _LABEL.fullmatch(name):
            raise ValueError(
                "must be 1 to 63 lower-case letters, digits and hyphens, and must begin and end "
                "with a letter or digit"
            )
        if name == "default" or name.startswith("kube-"):
            raise ValueError(
                f"{name} belongs to the cluster: choose a namespace for the platform alone"
            )
        return name

    @field_validator("allow_from")
    @classmethod
    def _valid_peers(cls, peers: list[str]) -> list[str]:
        for peer in peers:
            if not _LABEL.fullmatch(peer) and not _is_range(peer):
                raise ValueError(
                    f"{peer} must be the name of a namespace, or a range such as `10.1.0.0/16`"
                )
        return peers

    @field_validator("registry")
    @classmethod
    def _valid_registry(cls, prefix: str | None) -> str | None:
        if prefix is not None and not _REGISTRY.fullmatch(prefix):
            raise ValueError(
                "must be a registry and a path without https://, such as "
                "`registry.example.com/team`"
            )
        return prefix

    @field_validator("images")
    @classmethod
    def _valid_references(cls, images: dict[str, str]) -> dict[str, str]:
        for name, reference in images.items():
            if not _REFERENCE.fullmatch(reference):
                raise ValueError(
                    f"{name} must be an image, such as `registry.example.com/team/name@sha256:…`"
                )
        return images

    @field_validator("storage_class")
    @classmethod
    def _valid_storage_class(cls, name: str | None) -> str | None:
        # An empty text selects volumes that exist already.
        if name and not _SUBDOMAIN.fullmatch(name):
            raise ValueError(
                "must be the name of a storage class: `kubectl get storageclass` lists them"
            )
        return name

    @field_validator("volume_size")
    @classmethod
    def _valid_size(cls, size: str) -> str:
        if not _QUANTITY.fullmatch(size):
            raise ValueError("must be a size, such as `10Gi`")
        return size


def _is_range(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return "/" in text


def load() -> KubernetesSettings:
    """Read `mlops:kubernetes`. Raises pulumi.RunError with one line per problem."""
    return stack_settings("kubernetes", KubernetesSettings)
