"""What became of an object's inputs in the cluster."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from .wire import Object

_QUANTITY: Final = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_SUFFIXES: Final = {
    "m": Decimal("0.001"),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}
_MEASURED: Final = frozenset({"limits", "requests", "capacity", "hard", "sizeLimit"})


def live_inputs(live: Mapping[str, Any], inputs: Mapping[str, Any]) -> Object:
    """The live object reduced to what `inputs` says, with the values that the cluster has.

    What the server or others added is left out, so that a refresh shows only what changed of ours.
    """
    reduced = _reduced(live, inputs, measured=False)
    texts = inputs.get("stringData")
    if live.get("kind") == "Secret" and isinstance(texts, Mapping):
        # The server writes it into `data` and forgets it.
        data = live.get("data") or {}
        reduced["stringData"] = {key: _text(data[key]) for key in texts if key in data}
    return dict(reduced)


def _reduced(live: Any, inputs: Any, *, measured: bool) -> Any:
    if isinstance(live, Mapping) and isinstance(inputs, Mapping):
        return {
            # The server leaves out what is empty; that is no change of ours.
            key: _reduced(live.get(key, value), value, measured=measured or key in _MEASURED)
            for key, value in inputs.items()
            if key in live or value in ({}, [], "")
        }
    if isinstance(live, list) and isinstance(inputs, list):
        if not all(isinstance(item, Mapping) for item in (*live, *inputs)):
            return live
        if inputs and all("name" in item for item in inputs):
            by_name = {item.get("name"): item for item in live}
            pairs = [(by_name[item["name"]], item) for item in inputs if item["name"] in by_name]
        else:
            pairs = list(zip(live, inputs, strict=False))
        return [_reduced(item, given, measured=measured) for item, given in pairs]
    if measured and live != inputs and _quantity(live) == _quantity(inputs) is not None:
        return inputs
    return live


def _quantity(value: Any) -> Decimal | None:
    match = _QUANTITY.fullmatch(str(value))
    return Decimal(match[1]) * _SUFFIXES.get(match[2] or "", Decimal(1)) if match else None


def _text(data: str) -> str:
    return base64.b64decode(data).decode(errors="replace")
