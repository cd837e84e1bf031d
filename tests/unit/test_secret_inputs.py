"""Secrets of a configuration are found by the declaration of the inputs."""

from __future__ import annotations

from typing import Any

import pulumi
from pydantic import Field

from pulumi_mlops.config import PlatformConfig
from pulumi_mlops.secret_inputs import secret_places, with_secrets
from pulumi_mlops.spec import SecretText, Spec


class Account(Spec):
    user: str = Field(description="Name.")
    token: SecretText | None = Field(None, description="Token. Default: none.")


class Accounts(Spec):
    main: Account = Field(description="The main account.")
    by_name: dict[str, Account] = Field({}, description="Accounts by name.")
    several: list[Account] = Field([], description="Further accounts.")
    env: dict[str, SecretText] = Field({}, description="Environment variables.")


def plain(value: Any) -> Any:
    if isinstance(value, pulumi.Output):
        return "<secret>"
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def test_places_are_found_in_nested_models() -> None:
    assert secret_places(Accounts) == ["main.token", "by_name.*.token", "several.token", "env"]


def test_places_of_the_platform() -> None:
    assert secret_places(PlatformConfig) == [
        "artifacts.access_key_id",
        "artifacts.secret_access_key",
        "tracking.database_url",
        "training.env",
    ]


def test_only_declared_texts_become_secrets() -> None:
    reference = {"secret_key_ref": {"name": "a", "key": "b"}}
    account = {"user": "me", "token": "hush", "colour": "blue"}
    values = {
        "main": account,
        "by_name": {"a": account, "b": "text"},
        "several": [account],
        "env": {"A": "hush", "B": reference, "secret_key_ref": "hush", "C": 1},
        "unknown": "x",
    }
    hidden = {**account, "token": "<secret>"}
    assert plain(with_secrets(Accounts, values)) == {
        "main": hidden,
        "by_name": {"a": hidden, "b": "text"},
        "several": [hidden],
        "env": {"A": "<secret>", "B": reference, "secret_key_ref": "<secret>", "C": 1},
        "unknown": "x",
    }
