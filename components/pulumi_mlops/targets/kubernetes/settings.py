"""What a stack's configuration says of its cluster: `mlops:kubernetes`."""

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
# With the longest name of an endpoint it is a host name still.
_ENDPOINTS = re.compile(
    r"https?://\*(?=[^:]{2,190}(:|$))(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+"
    r"(:(?P<port>[1-9][0-9]{0,4}))?"
)


class BuildSettings(Spec):
    """How the images are built that are called by their content."""

    base: str = Field(
        DEFAULT_BASE,
        description="Image to start from, with Python; `{python}` becomes its version. With a "
        "digest (`name@sha256:…`) it is always the same.",
    )
    system_packages: list[str] = Field(
        [], description="Debian packages that requirements need beside them, as `libgomp1`."
    )
    ca: str | None = Field(
        None, description="File with the certificates (PEM) of the company's own authority."
    )
    index_url: str = Field(DEFAULT_INDEX, description="The package index.")
    extra_index_urls: list[str] = Field([], description="Further indexes, asked before that one.")
    network: str | None = Field(
        None, description="Network of the build, as docker's `--network`; the engine's own."
    )

    @model_validator(mode="after")
    def _possible(self) -> typing.Self:
        try:
            self.options().certificates()
        except ImageError as error:
            raise ValueError(str(error)) from None
        return self

    def options(self) -> BuildOptions:
        """The same for the images."""
        return BuildOptions(
            base=self.base,
            system_packages=self.system_packages,
            ca=None if self.ca is None else from_project(self.ca),
            index_url=self.index_url,
            extra_index_urls=self.extra_index_urls,
            network=self.network,
        )


class Toleration(Spec):
    """A taint of nodes that does not keep pods away (kubernetes.io, "Taints and Tolerations")."""

    key: str | None = Field(None, description="The taint's key; every one unless told.")
    operator: typing.Literal["Equal", "Exists"] = Field("Equal", description="How it is compared.")
    value: str | None = Field(None, description="Its value, with `Equal`.")
    effect: typing.Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Its effect; every one unless told."
    )


class Placement(Spec):
    """On which nodes pods may run, and before which others."""

    node_selector: dict[str, str] = Field({}, description="Labels that a node must have.")
    tolerations: list[Toleration] = Field(
        [], description="Taints that are no hindrance, as those of spot or GPU nodes."
    )
    priority_class: str | None = Field(None, description="PriorityClass of the pods.")

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
    """What all of the namespace may take together; what is None has no bound."""

    cpu: float | None = Field(None, gt=0, description="Cores that pods may request.")
    memory: str | None = Field(None, description="Memory of their limits, as in `64Gi`.")
    gpu: int | None = Field(None, ge=0, description="GPUs that they may request.")
    pods: int | None = Field(None, ge=1, description="Pods that have not ended.")
    storage: str | None = Field(None, description="Size of all volumes together, as in `1Ti`.")

    @field_validator("memory", "storage")
    @classmethod
    def _amount(cls, amount: str | None) -> str | None:
        if amount is not None and not _QUANTITY.fullmatch(amount):
            raise ValueError("must be an amount, as in `64Gi`")
        return amount

    def manifest(self) -> dict[str, str]:
        """The `hard` member of a ResourceQuota."""
        named = {
            "requests.cpu": None if self.cpu is None else f"{self.cpu:g}",
            "limits.memory": self.memory,
            "requests.nvidia.com/gpu": None if self.gpu is None else str(self.gpu),
            "pods": None if self.pods is None else str(self.pods),
            "requests.storage": self.storage,
        }
        return {key: value for key, value in named.items() if value is not None}


class GatewaySettings(Spec):
    """A Gateway that is there already (gateway-api.sigs.k8s.io); whose it is decides on its
    listeners, certificates and DNS."""

    name: str = Field(description="What it is called.")
    namespace: str = Field(
        description="Where it is. Who calls endpoints from there is let in; where its proxies run "
        "in another one, name that in `allow_from`."
    )
    url: str = Field(
        description="Where it is reached, with `*` for an endpoint's name, as in "
        "`https://*.models.example.com`. Stacks that share a Gateway each need another one."
    )
    section_name: str | None = Field(
        None, description="Its listener; all that take the host name unless told."
    )

    @field_validator("name", "section_name")
    @classmethod
    def _object(cls, name: str | None) -> str | None:
        if name is not None and not _SUBDOMAIN.fullmatch(name):
            raise ValueError(
                "must be small letters, digits, hyphens and dots: `kubectl get gateways -A` lists "
                "Gateways, `kubectl describe gateway` a Gateway's listeners"
            )
        return name

    @field_validator("namespace")
    @classmethod
    def _namespace(cls, name: str) -> str:
        if not _LABEL.fullmatch(name):
            raise ValueError("must be a namespace: `kubectl get gateways -A` tells it")
        return name

    @field_validator("url")
    @classmethod
    def _pattern(cls, url: str) -> str:
        found = _ENDPOINTS.fullmatch(url)
        if found is None or int(found["port"] or 1) > _LAST_PORT:
            raise ValueError(
                "must be http:// or https://, `*` for the name of an endpoint, and a domain in "
                "small letters, as in `https://*.models.example.com`"
            )
        return url

    def hostname(self, endpoint: str) -> str:
        """The host name of an endpoint."""
        return urlsplit(self.endpoint_url(endpoint)).hostname or ""

    def endpoint_url(self, endpoint: str) -> str:
        """The URL of an endpoint."""
        return self.url.replace("*", endpoint)


class KubernetesSettings(Spec):
    """Where on which cluster the platform runs, and what it is made from."""

    namespace: str = Field(
        "mlops", description="Everything runs in this namespace; it must not be one of the system."
    )
    create_namespace: bool = Field(
        True,
        description="Whether the namespace is made if it is not there. It is kept on destroy, "
        "unless delete_namespace says otherwise.",
    )
    delete_namespace: bool = Field(
        False, description="Whether destroying the stack deletes the namespace with all in it."
    )
    allow_from: list[str] = Field(
        [],
        description="Who may call the endpoints, the tracking server, the store and the page, "
        "beside the pods of the platform's namespace: namespaces, as an ingress controller's, and "
        "ranges of addresses, as `10.1.0.0/16`.",
    )
    gateway: GatewaySettings | None = Field(
        None,
        description="The Gateway that endpoints are reached through; by proxies of their own, "
        "within the cluster, unless told.",
    )
    context: str | None = Field(
        None, min_length=1, description="Context of the kubeconfig; its current one unless told."
    )
    kubeconfig: str | None = Field(
        None,
        min_length=1,
        description="Path of a kubeconfig; KUBECONFIG or ~/.kube/config unless told.",
    )
    render_to: str | None = Field(
        None,
        min_length=1,
        description="Folder, from the project's, that the manifests are written into for Argo CD "
        "or Flux. No cluster is asked or changed then; `mlops secrets` has the Secrets. A stack "
        "does one or the other from its beginning.",
    )
    registry: str | None = Field(
        None,
        description="Prefix of the images, as in `registry.example.com/team`: they are called "
        "<prefix>/<environment>:<digest of its content>.",
    )
    images: dict[str, str] = Field(
        {},
        description="Images that exist already, by the environment that they stand for; by digest, "
        "best.",
    )
    build: BuildSettings = Field(BuildSettings(), description="How the others are built.")
    storage_class: str | None = Field(
        None, description="Storage class of the volumes; the cluster's default one unless told."
    )
    volume_size: str = Field("10Gi", description="Size of a volume, as in `10Gi`.")

    placement: Placement = Field(Placement(), description="Where services run.")
    training_placement: Placement | None = Field(
        None, description="Where pipelines run; as services unless told."
    )
    quota: Quota = Field(Quota(), description="What the namespace may take.")

    @model_validator(mode="after")
    def _waited_for(self) -> typing.Self:
        if self.gateway is not None and self.render_to is not None:
            what = "cannot be had with render_to, since nobody would wait with the traffic until "
            what += "the pods of a new version are ready, as our own proxies do: leave out one"
            raise located([(("gateway",), what)])
        return self

    @field_validator("namespace")
    @classmethod
    def _named(cls, name: str) -> str:
        if not _LABEL.fullmatch(name):
            raise ValueError(
                "must be 1 to 63 small letters, digits and hyphens, beginning and ending with a "
                "letter or digit"
            )
        if name == "default" or name.startswith("kube-"):
            raise ValueError(f"{name} belongs to the cluster: choose one for the platform alone")
        return name

    @field_validator("allow_from")
    @classmethod
    def _peers(cls, peers: list[str]) -> list[str]:
        for peer in peers:
            if not _LABEL.fullmatch(peer) and not _is_range(peer):
                raise ValueError(
                    f"{peer} must be the name of a namespace, or addresses as `10.1.0.0/16`"
                )
        return peers

    @field_validator("registry")
    @classmethod
    def _prefix(cls, prefix: str | None) -> str | None:
        if prefix is not None and not _REGISTRY.fullmatch(prefix):
            raise ValueError(
                "must be a registry and a path, as in `registry.example.com/team`, without https://"
            )
        return prefix

    @field_validator("images")
    @classmethod
    def _references(cls, images: dict[str, str]) -> dict[str, str]:
        for name, reference in images.items():
            if not _REFERENCE.fullmatch(reference):
                raise ValueError(
                    f"{name} must be an image, as in `registry.example.com/team/name@sha256:…`"
                )
        return images

    @field_validator("storage_class")
    @classmethod
    def _class(cls, name: str | None) -> str | None:
        # An empty one means a volume that somebody has made by hand.
        if name and not _SUBDOMAIN.fullmatch(name):
            raise ValueError(
                "must be a storage class's name: `kubectl get storageclass` lists them"
            )
        return name

    @field_validator("volume_size")
    @classmethod
    def _size(cls, size: str) -> str:
        if not _QUANTITY.fullmatch(size):
            raise ValueError("must be a size, as in `10Gi`")
        return size


def _is_range(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return "/" in text


def load() -> KubernetesSettings:
    """The stack's `mlops:kubernetes`. Raises pulumi.RunError, one line per problem."""
    return stack_settings("kubernetes", KubernetesSettings)
