"""The errors of the plugin that are meant for people."""

from ..runtime.errors import ResourceError, UnreachableError

__all__ = ["ResourceError", "UnreachableError"]
