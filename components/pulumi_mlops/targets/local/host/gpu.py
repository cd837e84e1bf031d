"""GPUs of this machine."""

from __future__ import annotations

from pathlib import Path

_NVIDIA_DEVICE = Path("/dev/nvidiactl")


def has_gpu() -> bool:
    """Whether the driver of an NVIDIA GPU is loaded."""
    return _NVIDIA_DEVICE.exists()
