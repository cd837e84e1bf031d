"""The base class of specs. It validates known values and accepts Outputs without validation."""

from __future__ import annotations

import difflib
import json
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping

import pulumi
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationError,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

T = typing.TypeVar("T")
Location = tuple[str | int, ...]


def _outputs_pass(value: typing.Any, validate: Callable[[typing.Any], typing.Any]) -> typing.Any:
    return value if isinstance(value, pulumi.Output) else validate(value)


def _no_bool(value: typing.Any) -> typing.Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


OrOutput = typing.Annotated[T, WrapValidator(_outputs_pass)]
"""A value that is validated now, or an Output, whose value is not known yet."""

# `pulumi config set --path` and `--secret` store numbers as text, and the engine sends only floats.
# `"2"` and `2.0` are therefore accepted as the integer 2. `2.5` and `true` are not.
NoBool = BeforeValidator(_no_bool)
Whole = typing.Annotated[int, NoBool]
Number = typing.Annotated[float, NoBool]
Port = typing.Annotated[int, Field(ge=1, le=65535), NoBool]

_SECRET_NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
_SECRET_KEY = r"^[A-Za-z0-9._-]{1,253}$"
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
          "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}  # fmt: skip


_MIN_MEMORY = 2**20


def _bytes(value: typing.Any) -> typing.Any:
    match = re.fullmatch(r"([0-9]+)([kMGT]i?|Ki)?", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be an amount of memory, such as `512Mi` or `4Gi`")
    amount = int(match[1]) * _UNITS[match[2] or ""]
    if amount < _MIN_MEMORY:
        raise ValueError("must be at least 1Mi: a number without a unit is in bytes")
    return amount


Memory = typing.Annotated[
    int,
    BeforeValidator(_bytes),
    Field(gt=0),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+([kMGT]i?|Ki)?$"}),
]
"""Bytes, written as a Kubernetes quantity: `512Mi`, `4Gi`."""


_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*", re.ASCII)


def _host_name(value: str) -> str:
    if not _HOST_NAME.fullmatch(value):
        raise ValueError(
            "must be a host name in lower case without scheme and port, such as "
            "`mlflow.example.com`"
        )
    return value


HostName = typing.Annotated[str, AfterValidator(_host_name)]
"""A DNS name, such as `mlflow.example.com`."""


def must_be(what: str) -> WrapValidator:
    """A validator for unions that reports `must be <what>` instead of one problem per member."""

    def one_problem(value: typing.Any, validate: Callable[[typing.Any], typing.Any]) -> typing.Any:
        try:
            return validate(value)
        except ValidationError:
            raise ValueError(f"must be {what}") from None

    return WrapValidator(one_problem)


class Checked(dict[str, typing.Any]):
    """Inputs from a stack configuration that is already validated. They are not validated again."""


class Spec(BaseModel):
    """The validated inputs of a component, with defaults. Immutable."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        allow_inf_nan=False,
        # A nested model is validated by the model that contains it. Its own validator is built at
        # its first use.
        defer_build=True,
    )

    @model_validator(mode="wrap")
    @classmethod
    def _readable_errors(
        cls, value: typing.Any, validate: ModelWrapValidatorHandler[typing.Self]
    ) -> typing.Self:
        if nul := list(_with_nul(value)):
            raise located((where, "must not contain a NUL character") for where in nul)
        try:
            return validate(value)
        except ValidationError as error:
            details = error.errors(include_input=False, include_url=False)
            # A misspelled name is often the reason why a required input is missing: it comes first.
            details.sort(key=lambda detail: detail["type"] != "extra_forbidden")
            raise located((detail["loc"], _message(detail, cls)) for detail in details) from None

    @classmethod
    def of(cls, name: str, args: Mapping[str, typing.Any]) -> typing.Self:
        """Validate `args` and return the spec of the component called `name`.

        Raises pulumi.RunError with one line per problem: the path of the input and what is allowed.
        """
        if isinstance(args, Checked):
            return typing.cast("typing.Self", cls.model_construct(**args))
        try:
            return cls.model_validate(
                {key: value for key, value in args.items() if value is not None}
            )
        except ValidationError as error:
            raise pulumi.RunError("\n".join(problems(name, error))) from None


def _with_nul(value: typing.Any, where: Location = ()) -> Iterator[Location]:
    """The locations of texts with a NUL character: no path, argument or variable can contain it."""
    if isinstance(value, str):
        if "\0" in value:
            yield where
    elif isinstance(value, Mapping):
        for key, item in value.items():
            step = key.replace("\0", "?") if isinstance(key, str) else str(key)
            if step != key:
                yield (*where, step)
            yield from _with_nul(item, (*where, step))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _with_nul(item, (*where, index))


def located(messages: Iterable[tuple[Location, str]]) -> ValidationError:
    """A ValidationError with one problem per location and message, for checks of several inputs."""
    return ValidationError.from_exception_data(
        "inputs",
        [
            InitErrorDetails(
                type=PydanticCustomError("message", "{message}", {"message": message}),
                loc=where,
                input=None,
            )
            for where, message in messages
        ],
        hide_input=True,
    )


def problems(name: str, error: ValidationError) -> list[str]:
    """One line per problem: `<name>.<path of the input>: <what is allowed>`. Values are omitted."""
    return [
        f"{'.'.join([name, *(_key(step) for step in problem['loc'] if step != '[key]')])}: "
        f"{problem['msg']}"
        for problem in error.errors(include_input=False, include_url=False)
    ]


def _key(step: str | int) -> str:
    text = str(step)
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else json.dumps(text)


_MESSAGES = {
    "missing": "is required",
    "string_type": "must be text: put numbers and dates in quotes",
    "string_unicode": "must be Unicode text",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a map of keys to values",
    "model_type": "must be a map of keys to values",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "is_instance_of": "must be a component of the type {class}",
}


def _message(problem: typing.Any, spec: type[Spec]) -> str:
    kind, where = problem["type"], problem["loc"]
    if kind == "extra_forbidden":
        return no_such("input", str(where[-1]), spec.model_fields)
    if kind in _MESSAGES:
        return _MESSAGES[kind].format(**problem.get("ctx", {}))
    message: str = problem["msg"]
    return message.removeprefix("Value error, ")


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name: the most similar name of `known`, or all of them."""
    known = list(known)
    if close := difflib.get_close_matches(name, known, n=1):
        return f"there is no such {what}: did you mean `{close[0]}`?"
    choice = f"choose one of {', '.join(sorted(known))}" if known else "none is defined"
    return f"there is no such {what}: {choice}"


class ResourceSettings(Spec):
    """CPU, memory and GPUs of a program."""

    cpu: typing.Annotated[float, Field(gt=0, le=1024), NoBool] | None = Field(
        None,
        description="CPU cores to reserve, such as `0.5`. Default: the target's default.",
    )
    memory: Memory | None = Field(
        None,
        description="Memory to reserve and the limit, such as `2Gi`. Default: the target's "
        "default.",
    )
    gpu: typing.Annotated[int, Field(ge=0, le=64), NoBool] = Field(0, description="Number of GPUs.")


class OnTarget(Spec):
    """The `target` input of a component."""

    target: str | None = Field(
        None, description="Name of the target to run on. Default: the stack's `mlops:target`."
    )


class SecretKeyRef(Spec):
    """A value of a Kubernetes Secret, as in a pod's `secretKeyRef`."""

    name: typing.Annotated[
        str, Field(pattern=_SECRET_NAME), must_be("a name that Kubernetes allows")
    ] = Field(description="Name of the Secret, in the stack's namespace.")
    key: typing.Annotated[
        str, Field(pattern=_SECRET_KEY), must_be("letters, digits, `-`, `_` and `.`")
    ] = Field(description="Key in the Secret's `data`.")


class FromSecret(Spec):
    """A text read from an existing Secret. Kubernetes only."""

    secret_key_ref: SecretKeyRef = Field(description="The Secret and its key.")


class EncryptedText(Spec):
    """A text encrypted by `pulumi config set --secret`."""

    secure: str = Field(description="The encrypted text.")


class _SecretTextSchema:
    """Marks a SecretText. Its JSON schema lists all forms: text, EncryptedText, FromSecret."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        forms = [handler(schema)]
        for form in (EncryptedText, FromSecret):
            form.model_rebuild()
            forms.append(handler(form.__pydantic_core_schema__))
        return {"anyOf": forms}


def _text_or_reference(
    value: typing.Any, validate: Callable[[typing.Any], typing.Any]
) -> typing.Any:
    if isinstance(value, FromSecret):
        return value
    return FromSecret.model_validate(value) if isinstance(value, Mapping) else validate(value)


SECRET_TEXT = _SecretTextSchema()
"""The marker in the type annotation of each SecretText."""
SecretText = typing.Annotated[OrOutput[str], WrapValidator(_text_or_reference), SECRET_TEXT]
"""Text, which the stack configuration may contain in encrypted form, or a FromSecret.
`targets.port.text_of` returns the text of either."""
