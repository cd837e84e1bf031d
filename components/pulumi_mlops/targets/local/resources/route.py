"""`mlops:local:Route`: one stable URL in front of weighted services, by HAProxy."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from ....plugin.errors import ResourceError
from ....plugin.handler import Context, Handler, Inputs, OutputField
from ....plugin.values import OrUnknown, Unknown
from ....runtime.router import haproxy
from ....runtime.router.analysis import Analysis
from ..host import ports
from ..host.first_requests import analyzed_change, new_services
from ..host.router import RouteDefinition, Router

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_WEIGHT_ERROR = 0.5
"""Maximum difference between the requested and the effective weight of a service, in percent."""


class ServiceInputs(Inputs):
    """A service behind the route: its replicas, weight and health check."""

    addresses: OrUnknown[list[OrUnknown[str]]] = Field(
        description="Addresses of the replicas, `host:port` or `http://host:port`."
    )
    weight: int = Field(ge=0, le=100, description="Share of the requests, in percent.")
    check_path: str = Field(description="HTTP path that answers 200 while a replica is ready.")

    @field_validator("addresses")
    @classmethod
    def _addresses(cls, value: Any) -> Any:
        if isinstance(value, Unknown):
            return value
        if not value:
            raise _wrong("is empty: set the address of at least one replica")
        addresses = [each if isinstance(each, Unknown) else _address(each) for each in value]
        _refuse_duplicates(addresses)
        return addresses

    @field_validator("check_path")
    @classmethod
    def _path(cls, value: str) -> str:
        if not re.fullmatch(r"/[!-~]*", value):
            raise _wrong(
                f"is {value!r}: must begin with / and have no spaces or control characters"
            )
        return value


class AnalysisInputs(Inputs):
    """The analysis of the first requests of a service that a change sends requests to."""

    seconds: float = Field(gt=0, description="Maximum length of the analysis, in seconds.")
    min_requests: int = Field(ge=1, description="Number of requests that a verdict requires.")
    max_error_rate: float = Field(
        ge=0,
        le=1,
        description="Maximum share of responses with a 5xx status, such as 0.05. Refusals of "
        "overload (503, 504) do not count.",
    )


class RouteInputs(Inputs):
    """Inputs of `mlops:local:Route`."""

    endpoint: str = Field(
        description="Name of the endpoint, which is the `proxy` label of its metrics."
    )
    services: dict[str, ServiceInputs] = Field(
        description="Services by name. Their weights sum to 100. A service with 0 is kept warm."
    )
    port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of the URL. Default: an unused port, which the route keeps.",
    )
    request_timeout_seconds: float = Field(
        300, gt=0, description="Time limit for the answer to a request, in seconds."
    )

    analysis: AnalysisInputs | None = Field(
        None,
        description="Analysis of the first requests of a service, which must be a model server. "
        "With too many errors the update fails, and the previous weights are in effect again. "
        "Default: no analysis.",
    )

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        return _plain_name(value)

    @field_validator("services")
    @classmethod
    def _services(cls, value: dict[str, ServiceInputs]) -> dict[str, ServiceInputs]:
        for name in value:
            _plain_name(name)
        total = sum(service.weight for service in value.values())
        if total != 100:
            weights = ", ".join(f"{name} {service.weight}" for name, service in value.items())
            raise _wrong(
                f"have weights that sum to {total}, not 100 ({weights or 'there are no services'})"
            )
        _refuse_duplicates(
            [
                address
                for service in value.values()
                if not isinstance(service.addresses, Unknown)
                for address in service.addresses
            ]
        )
        return value


class RouteHandler(Handler[RouteInputs]):
    """Manages one HAProxy per route. Weights and servers change without a restart."""

    token = "mlops:local:Route"
    description = "One stable URL in front of weighted services, by HAProxy."
    inputs = RouteInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "url": OutputField(str, "URL for clients."),
        "metricsUrl": OutputField(str, "URL of HAProxy's metrics, for Prometheus."),
        "statsUrl": OutputField(str, "URL of HAProxy's statistics page.", state_only=True),
        "status": OutputField(str, "`running`, or what is wrong with the proxy."),
        "served": OutputField(
            list[str], "Services that had a weight in an applied table.", state_only=True
        ),
        "logs": OutputField(list[str], "Paths of the log files.", state_only=True),
    }
    path_output = ("logs", 2)

    def check(self, ctx: Context, new: RouteInputs) -> list[tuple[str, str]]:
        problems = []
        if not _NAME.fullmatch(ctx.name):
            problems.append(
                (
                    "",
                    f"the resource's name {ctx.name!r} is used for files: "
                    "use only letters, digits, . _ -",
                )
            )
        elif new.port is not None:
            try:
                ports.check(ctx.root, Router(ctx, ctx.name).port_owner, new.port)
            except ResourceError as error:
                problems.append(("port", str(error)))
        counts = {
            name: (service.weight, len(service.addresses))
            for name, service in new.services.items()
            if not isinstance(service.addresses, Unknown)
        }
        if len(counts) == len(new.services):
            _, weight_error = haproxy.server_weights(counts)
            if weight_error > _MAX_WEIGHT_ERROR:
                problems.append(
                    (
                        "services",
                        "with these numbers of replicas the weights would be off by "
                        f"{weight_error:.1f} %: reduce the replicas of a service with a small "
                        "weight, or increase its weight",
                    )
                )
        return problems

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        status = Router(ctx, resource_id).status(_recorded(state))
        return {} if status == "running" == state.get("status") else {"status": status}

    def preview(self, ctx: Context, new: RouteInputs, old: dict[str, Any] | None) -> dict[str, Any]:
        known: dict[str, Any] = {"status": "running"}
        if old is not None:
            unchanged = ("url", "metricsUrl", "statsUrl", "logs")
            known |= {key: old[key] for key in unchanged if key in old}
            previous = _recorded(old)
            if previous and (previous.endpoint, previous.request_seconds) != (
                new.endpoint,
                new.request_timeout_seconds,
            ):
                ctx.log(
                    "the proxy restarts during the update and refuses new connections for a moment"
                )
        if new.port is not None:
            known["url"] = f"http://127.0.0.1:{new.port}"
        return known

    def create(self, ctx: Context, new: RouteInputs) -> tuple[str, dict[str, Any]]:
        route = Router(ctx, ctx.name)
        definition = _definition(new)
        with route.locked():
            route.remove()  # what an interrupted create left behind
            try:
                # Without a previous table there is nothing to go back to.
                outputs = route.begin(definition)
                return ctx.name, outputs | {"served": sorted(_weighted(definition.services))}
            except BaseException:
                route.remove(keep_log=True)
                raise

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        route = Router(ctx, resource_id)
        if not route.exists():
            return None
        return {"status": route.status(_recorded(state))}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: RouteInputs
    ) -> dict[str, Any]:
        route = Router(ctx, resource_id)
        previous = _recorded(old)
        with route.locked():
            if previous is None:
                outputs = route.change(_definition(new))
                return outputs | {"served": sorted(_weighted(_definition(new).services))}
            return self._analyzed_change(ctx, route, previous, old, new)

    def _analyzed_change(
        self,
        ctx: Context,
        route: Router,
        previous: RouteDefinition,
        old: dict[str, Any],
        new: RouteInputs,
    ) -> dict[str, Any]:
        definition, analysis = _definition(new), new.analysis
        served = {*old.get("served", ()), *_weighted(previous.services)}
        names = new_services(definition.services, served)
        if analysis is None or not names:
            outputs = route.change(definition)
        else:
            limits = Analysis(**analysis.model_dump())
            outputs = analyzed_change(ctx, route, previous, definition, names=names, limits=limits)
        served |= _weighted(definition.services)
        return outputs | {"served": sorted(served & new.services.keys())}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        route = Router(ctx, resource_id)
        with route.locked():
            route.remove()
        ctx.root.prune()


def _weighted(services: Mapping[str, haproxy.ProxyBackend]) -> set[str]:
    return {name for name, backend in services.items() if backend.weight}


def _definition(new: RouteInputs) -> RouteDefinition:
    return RouteDefinition(
        endpoint=new.endpoint,
        port=new.port,
        request_seconds=new.request_timeout_seconds,
        services={
            name: haproxy.ProxyBackend(
                service.weight, _known(service.addresses), service.check_path
            )
            for name, service in new.services.items()
        },
    )


def _recorded(state: dict[str, Any]) -> RouteDefinition | None:
    """The definition in the recorded inputs. None without inputs, as for an import."""
    fields = RouteInputs.model_fields.items()
    names = [info.alias or name for name, info in fields]
    try:
        return _definition(RouteInputs.model_validate({k: state[k] for k in names if k in state}))
    except ValidationError:
        return None


def _known(addresses: Any) -> tuple[str, ...]:
    if isinstance(addresses, Unknown) or any(isinstance(each, Unknown) for each in addresses):
        raise ResourceError("services: an address is not known yet")
    return tuple(addresses)


def _address(text: str) -> str:
    """The address `host:port` in `text`. HAProxy resolves no names: localhost becomes 127.0.0.1."""
    allowed = "use host:port or http://host:port, the host as an IP address or localhost"
    try:
        parts = urlsplit(text if "//" in text else f"//{text}")
        host, port = parts.hostname, parts.port
        if host == "localhost":
            host = "127.0.0.1"
        ip = ipaddress.ip_address(host or "")
    except ValueError:
        raise _wrong(f"has {text!r}: {allowed}") from None
    if parts.scheme not in ("", "http") or not port or parts.path.strip("/") or parts.username:
        raise _wrong(f"has {text!r}: {allowed}")
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def _refuse_duplicates(addresses: Sequence[Any]) -> None:
    known = [address for address in addresses if not isinstance(address, Unknown)]
    for address in known:
        if known.count(address) > 1:
            raise _wrong(f"contain {address} twice: list each address once, in one service")


def _plain_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise _wrong(
            f"{value!r} is not valid: use letters, digits, . _ - and begin with a letter or digit"
        )
    return value


def _wrong(message: str) -> PydanticCustomError:
    """A validation error whose message has no prefix of pydantic."""
    return PydanticCustomError("route", "{message}", {"message": message})
