"""Move recognisers to a device."""

from typing import Any

from vqasr.errors import RecogniserError


def move(model: Any, device: str) -> None:
    """Move a model to a device.

    Raises:
        RecogniserError: there is no such device.
    """
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise RecogniserError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]}). Use cpu."
        ) from error
