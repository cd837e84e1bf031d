"""Names of registered models: which names are allowed, and their form in URLs.

MLflow allows every name without `/` and `:` that is not blank, is not `.` and does not begin with
`..` (mlflow/utils/validation.py, `_validate_model_name`).
"""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

MAX_LENGTH = 256
"""Length of the column in MLflow's database."""

# RFC 3986, section 3.3: these characters, letters, digits and `-._~` need no encoding in a path.
_SAFE_IN_PATH = "!$&'()*+,;=@"


def problem(name: str) -> str | None:
    """Why `name` cannot be the name of a served model, and what is allowed. None if it can be."""
    rules = (
        (not name.strip(), "must be the name of a registered model"),
        (
            not {"/", ":"}.isdisjoint(name),
            "contains / or :, which MLflow does not allow in the name of a registered model",
        ),
        (
            name == "." or name.startswith(".."),
            "must not be . or begin with ..: MLflow has no such registered model",
        ),
        (
            any(unicodedata.category(character) == "Cc" for character in name),
            "contains a control character, such as a line break: rename the registered model",
        ),
        (
            "$(" in name or "$$" in name,
            "contains $( or $$, which environment variables expand: rename the registered model",
        ),
        (
            len(name) > MAX_LENGTH,
            f"has {len(name)} characters: MLflow allows at most {MAX_LENGTH}",
        ),
    )
    return next((message for broken, message in rules if broken), None)


def path_segment(name: str) -> str:
    """`name` in the path of a URL, percent-encoded in UTF-8."""
    return quote(name, safe=_SAFE_IN_PATH)


def header_value(name: str) -> str:
    """`name` in an HTTP header: percent-encoded, with spaces between other characters."""
    inner = name.strip(" ")
    before, after = name[: len(name) - len(name.lstrip(" "))], name[len(name.rstrip(" ")) :]
    return f"{quote(before)}{quote(inner, safe=' ')}{quote(after)}"
