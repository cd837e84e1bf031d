"""The one error of the plugin that is meant for people."""


class ResourceError(Exception):
    """What a user has to know and do; its text is shown as it stands, without a traceback."""
