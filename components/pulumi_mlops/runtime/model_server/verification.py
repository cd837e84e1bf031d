"""The checks of a loaded model before its server becomes ready."""

from __future__ import annotations

import logging

from pulumi_mlops.runtime.model_server import outputs, probe
from pulumi_mlops.runtime.model_server.http import RequestError
from pulumi_mlops.runtime.model_server.inference import Answer, Inference

logger = logging.getLogger(__name__)

GOLDEN_ID = "golden-request"
PROBE_ID = "probe"


class CheckFailed(Exception):
    """Why the model should not be served, and what helps: one line without a full stop."""


def verify_example(inference: Inference, request: bytes) -> None:
    """Make the golden request, which is the model's input example.

    Raises CheckFailed when it fails, or when its answer does not match the signature.
    """
    try:
        answer = _answer(inference, request, GOLDEN_ID)
    except RequestError as error:
        raise CheckFailed(
            f"the golden request (the model's input example) failed: {_phrase(error)}; log the "
            "model with an input example that it answers"
        ) from None
    if reason := outputs.misfit(answer.raw, inference.signature):
        raise CheckFailed(
            f"the golden request's answer does not fit the signature: {reason}; log the model "
            "with the signature of its answers, `infer_signature(X, model.predict(X))`"
        )
    inference.use_direct(answer)


def verify_signature(inference: Inference) -> None:
    """Probe a model without an input example with requests made from its signature.

    One answer is enough. Raises CheckFailed when every request fails, unless the reason may be the
    values: a model need not know a text that was made up.
    """
    requests = list(probe.probes(inference.signature))
    if not requests:
        logger.warning(
            "the model was logged without an input example and without a signature: no request "
            "can be made to check it"
        )
        return
    failures: list[RequestError] = []
    for request in requests:
        try:
            answer = _answer(inference, request, PROBE_ID)
        except RequestError as error:
            failures.append(error)
        else:
            logger.info("no input example; the model answers a request made from its signature")
            inference.use_direct(answer)
            return
    if _values_may_be_wrong(inference, failures):
        logger.warning(
            "the model was logged without an input example; no request made from its signature "
            "was answered, whose values may be the reason: %s", failures[0]
        )  # fmt: skip
        return
    raise CheckFailed(
        "the model was logged without an input example, and every request made from its signature "
        f"failed: {_phrase(failures[0])}; log the model with an input example that it answers"
    )


def _phrase(error: RequestError) -> str:
    return error.message.rstrip(".")


def _answer(inference: Inference, request: bytes, request_id: str) -> Answer:
    """The answer by both protocols. Raises RequestError."""
    answer = inference.invocations(request, "application/json", request_id)
    outputs.to_json(outputs.to_tensors(answer.raw, inference.signature))
    return answer


def _values_may_be_wrong(inference: Inference, failures: list[RequestError]) -> bool:
    """Whether a failure was a refusal of the values, where the signature does not bound them."""
    if any(error.status < 500 for error in failures):
        return True
    refused = any(isinstance(error.__cause__, ValueError | LookupError) for error in failures)
    return refused and probe.has_free_values(inference.signature)
