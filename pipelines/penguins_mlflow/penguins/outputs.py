"""The outputs of a run for the program that started it."""

import json
import os
from pathlib import Path
from typing import TypedDict

from penguins.errors import PipelineError


class Outputs(TypedDict):
    """The result of a run that registered a version.

    `champion` is the version that was champion before the run; None if there was none. `promoted`
    is true if the new version replaced it.
    """

    model: str
    version: str
    run_id: str
    accuracy: float
    champion: str | None
    promoted: bool


def write(outputs: Outputs, path: Path) -> None:
    """Write the outputs as JSON in one step: the file is never incomplete.

    Raises PipelineError if it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(outputs, indent=2) + "\n")
        partial.replace(path)
    except OSError as error:
        raise PipelineError(f"MLOPS_OUTPUTS={path} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
