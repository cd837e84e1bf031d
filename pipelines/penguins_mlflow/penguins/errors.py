"""What ends a run in one line instead of a traceback."""


class PipelineError(Exception):
    """The run cannot go on; the message says why and what to do."""
