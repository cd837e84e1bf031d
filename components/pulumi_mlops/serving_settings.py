"""The inputs of a ServingEndpoint that the stack configuration has too."""

from __future__ import annotations

import re
import typing

from pydantic import Field, field_validator, model_validator

from .runtime.model_names import problem
from .spec import HostName, Memory, NoBool, Number, Port, ResourceSettings, Spec, Whole, located
from .training import Requirements

_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class AnalysisSettings(Spec):
    """The analysis of the first requests of a model version that a change sends requests to."""

    seconds: Number = Field(
        10,
        ge=0,
        le=3600,
        description="Maximum length of the analysis, in seconds. 0 turns it off.",
    )
    min_requests: Whole = Field(
        20,
        ge=1,
        description="Number of requests that a verdict requires. With fewer requests the update "
        "warns that the errors were not analyzed.",
    )
    max_error_rate: Number = Field(
        0.05,
        ge=0,
        le=1,
        description="Maximum share of responses with a 5xx status. Refusals of overload (503, 504) "
        "do not count.",
    )


class BatchingSettings(Spec):
    """How the servers combine requests that wait at the same time into one call of the model.

    Requests of one form are combined: the same columns and types, without parameters. An error
    stays with its own request. A model without a signature, with type hints, or whose rows depend
    on one another is called once per request.
    """

    max_batch: Whole = Field(
        64, ge=1, le=4096, description="Maximum rows in one call of the model. 1 is off."
    )
    max_delay: Number = Field(
        0,
        ge=0,
        le=10,
        description="Seconds that the first request of a call waits for others. With 0, only "
        "requests that wait already are combined, and none is delayed.",
    )


class ServingEndpointSettings(Spec):
    """An endpoint: pinned versions of a registered model behind one URL."""

    model: str = Field(
        description="Name of the registered model. In URLs it is percent-encoded, such as "
        "`/v2/models/price%20list/infer`."
    )
    traffic: dict[str, Whole] = Field(
        min_length=1,
        description='Traffic table: percent of the requests by model version, such as `{"2": 90, '
        '"3": 10}`. The weights sum to 100. A version with 0 is kept warm.',
    )
    requirements: Requirements | None = Field(
        None,
        description="Requirements of the models: a requirements file, whose path starts at the "
        "folder of Pulumi.yaml, or a list of requirements. Default: for each version, the "
        "requirements that MLflow stored with it.",
    )
    replicas: Whole = Field(1, ge=1, le=64, description="Number of servers of each version.")
    max_replicas: typing.Annotated[int, Field(ge=1, le=64), NoBool] | None = Field(
        None,
        description="Maximum number of servers of each version. The autoscaler keeps their CPU "
        "use at 70 % of `resources.cpu`, with at least `replicas` servers. A target without an "
        "autoscaler refuses it. Default: `replicas`, without an autoscaler.",
    )
    port: Port | None = Field(None, description="Port of the endpoint. Default: an unused port.")
    analysis: AnalysisSettings | None = Field(
        None,
        description="Analysis of the first requests of a model version. With too many errors the "
        "previous traffic table is in effect again, and the update fails. A target without it "
        "refuses the input. Default: the defaults of the analysis, where the target has one.",
    )
    hosts: list[HostName] = Field(
        [],
        description="Public host names of an endpoint behind a Gateway, in addition to the one of "
        "the Gateway's `url`. Without a Gateway, the proxies of the endpoint accept every host "
        "name and refuse this input.",
    )
    max_request_body: Memory | None = Field(
        None,
        description="Maximum size of the body of a request, such as `64Mi`. Larger requests get "
        "413. Default: `16Mi`.",
    )
    prediction_log: bool = Field(
        True, description="Log requests and answers to the artifact store."
    )
    check_output: typing.Literal["error", "warn"] = Field(
        "error",
        description="Result of a failed check of a model version: `error` fails the update, `warn` "
        "logs the reason and serves the version. A version is checked before it is ready: its "
        "input example must be answered as its signature says, or, without an example, one of the "
        "requests made from its signature must be answered.",
    )
    python: str | None = Field(
        None,
        description="Python version of the servers, such as `3.12`. At least 3.10. Default: with "
        "`requirements`, the version that runs the Pulumi program. Without, the version that "
        "MLflow stored with the model.",
    )
    startup_timeout: Number = Field(
        180, gt=0, le=86400, description="Seconds within which a version must become ready."
    )
    max_queue: Whole = Field(
        256,
        ge=1,
        le=1000,
        description="Maximum requests that wait for the model in each server. Further ones are "
        "refused with 503 and `Retry-After`.",
    )
    queue_timeout: Number = Field(
        10,
        gt=0,
        le=3600,
        description="Seconds after which a waiting request is refused. When most clients give up "
        "earlier, each server refuses earlier.",
    )
    batching: BatchingSettings = Field(
        BatchingSettings(), description="How the servers combine requests."
    )
    resources: ResourceSettings = Field(
        ResourceSettings(), description="CPU, memory and GPUs of each server."
    )

    @field_validator("model")
    @classmethod
    def _valid_model(cls, model: str) -> str:
        if (message := problem(model)) is not None:
            raise ValueError(message)
        return model

    @field_validator("traffic")
    @classmethod
    def _valid_traffic(cls, traffic: dict[str, int]) -> dict[str, int]:
        problems = [
            ((version,), "is not a model version: use a number of the model registry, 1 or higher")
            for version in traffic
            if not _VERSION.fullmatch(version)
        ] + [
            ((version,), f"is {weight}: must be 0 to 100 percent")
            for version, weight in traffic.items()
            if not 0 <= weight <= 100
        ]
        if problems:
            raise located(problems)
        if (total := sum(traffic.values())) != 100:
            raise ValueError(f"the weights sum to {total}: they must sum to 100 percent")
        return dict(sorted(traffic.items(), key=lambda item: int(item[0])))

    @model_validator(mode="after")
    def _valid_replicas(self) -> typing.Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            message = f"is {self.max_replicas}: must be at least `replicas`, {self.replicas}"
            raise located([(("max_replicas",), message)])
        return self
