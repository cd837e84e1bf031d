"""The errors of the plugin that are meant for people."""

from ..runtime.errors import GoneError, ResourceError, UnreachableError

__all__ = ["GoneError", "ResourceError", "UnreachableError"]
