"""Errors that end a run with one line instead of a traceback."""


class PipelineError(Exception):
    """The run failed. The message names the cause and the fix."""
