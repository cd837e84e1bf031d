"""The command line: parameters in, exit code out.

Exit codes: 0 the model was registered; 1 the run failed (data, gate or MLflow); 2 a parameter is
invalid. Large libraries are imported after the parameters are validated.
"""

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from penguins.errors import PipelineError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Parameters of one run. The help of the command line describes them."""

    test_size: float = 0.2
    seed: int = 7
    regularization: float = 1.0
    min_accuracy: float = 0.9
    min_delta: float = 0.0
    data: Path | None = None
    model_name: str = "penguins"
    experiment: str = "penguins"


def parse(arguments: Sequence[str]) -> Settings:
    """The parameters of the command line. Exits with code 2 and one line if one is invalid."""
    default = Settings()
    parser = _Parser(
        prog="run.py",
        description="Train the penguin classifier and register it in MLflow.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    option = parser.add_argument
    option(
        "--test-size",
        type=_number(float, 0.05, 0.5),
        default=default.test_size,
        help="share of the rows held out for evaluation, 0.05 to 0.5",
    )
    option(
        "--seed",
        type=_number(int, 0, 2**32 - 1),
        default=default.seed,
        help="seed of the split and of every random choice, 0 to 2^32-1",
    )
    option(
        "--regularization",
        type=_number(float, 1e-4, 1e4),
        default=default.regularization,
        help="strength of the L2 penalty, 0.0001 to 10000; larger values give simpler models",
    )
    option(
        "--min-accuracy",
        type=_number(float, 0, 1),
        default=default.min_accuracy,
        help="minimum accuracy on the hold-out, 0 to 1; below it no model is registered",
    )
    option(
        "--min-delta",
        type=_number(float, 0, 1),
        default=default.min_delta,
        help="accuracy gain over the champion required for promotion, 0 to 1; 0: at least equal",
    )
    option(
        "--data",
        type=_file,
        default=default.data,
        help="CSV file with the columns of the Palmer penguins; default: the packaged data",
    )
    option(
        "--model-name",
        type=_name,
        default=default.model_name,
        help="name in the model registry; letters, digits, '.', '_' and '-'",
    )
    option(
        "--experiment",
        type=_name,
        default=default.experiment,
        help="MLflow experiment of the run; letters, digits, '.', '_' and '-'",
    )
    return Settings(**vars(parser.parse_args(arguments)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipeline and return its exit code. Reads MLFLOW_TRACKING_URI and MLOPS_OUTPUTS."""
    settings = parse(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    try:
        outputs_file = _outputs_file()
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            raise PipelineError(
                "MLFLOW_TRACKING_URI is not set: set it to the URL of the tracking server "
                "(http://host:port), or sqlite:///mlflow.db for a run without a server"
            )
        return _run(settings, outputs_file)
    except PipelineError as error:
        log.error("%s", error)
        return 1


def _run(settings: Settings, outputs_file: Path | None) -> int:
    log.info("importing the libraries")
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  (takes seconds, not needed for --help)

    from penguins import pipeline  # noqa: PLC0415

    # After the import, which sets log levels.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    # It warns if the environment has no pip, as those of uv.
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
    try:
        pipeline.run(settings, outputs_file)
    except MlflowException as error:
        raise PipelineError(
            "MLflow failed: check that MLFLOW_TRACKING_URI is correct and reachable (and "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, if it requires a user): "
            f"{without_credentials(str(error))}"
        ) from None
    return 0


def without_credentials(text: str) -> str:
    """`text` in one line, with the user and password of every URL masked."""
    return re.sub(r"://[^/\s@]+@", "://***@", " ".join(text.split()))


def _outputs_file() -> Path | None:
    """The file that MLOPS_OUTPUTS names. Checked first, so that no run fails at its end."""
    name = os.environ.get("MLOPS_OUTPUTS")
    if not name:
        return None
    path = Path(name)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise PipelineError(
            f"MLOPS_OUTPUTS={name} cannot be written: name a file in an existing, writable folder"
        )
    return path


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def _number(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], int | float]:
    def convert(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:  # also excludes NaN
            noun = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {noun} from {low:g} to {high:.10g}")
        return value

    return convert


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file")
    return path


def _name(text: str) -> str:
    # MLflow forbids '/' and ':' in model names. The other limits make names valid in URLs.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name: use up to 100 letters, digits, '.', '_' and '-'"
        )
    return text
