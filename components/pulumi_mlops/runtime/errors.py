"""The errors that are meant for people."""


class ResourceError(Exception):
    """What a user has to know and do; its text is shown as it stands, without a traceback."""


class UnreachableError(ResourceError):
    """Nobody answers there, or nobody who can."""


class GoneError(UnreachableError):
    """The server does not exist any more, and so nothing that was in it."""
