"""Errors whose messages are written for users."""


class ResourceError(Exception):
    """An error that a user can correct. The message is shown without a traceback."""


class UnreachableError(ResourceError):
    """A server does not answer, or answers that it is not available."""


class GoneError(UnreachableError):
    """The server no longer exists, and with it everything that it contained."""
