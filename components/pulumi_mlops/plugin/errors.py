"""The errors whose text the plugin shows to users."""

from ..runtime.errors import GoneError, ResourceError, UnreachableError

__all__ = ["GoneError", "ResourceError", "UnreachableError"]
