"""Masks the secrets of a request in messages and logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pulumi.provider.experimental.property_value import PropertyValue

from .values import secrets_in

# Masking shorter secrets would make logs unreadable and protect nothing.
_MIN_MASKED_LENGTH = 6


class Masking:
    """Replaces the secrets of a request in messages and logs."""

    def __init__(self, properties: Sequence[Mapping[str, PropertyValue]]) -> None:
        secrets = {
            text
            for each in properties
            for value in each.values()
            for text in secrets_in(value)
            if len(text) >= _MIN_MASKED_LENGTH
        }
        self._secrets = sorted(secrets, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text
