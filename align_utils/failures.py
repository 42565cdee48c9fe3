"""Why a costly step stops where the machine is at fault: memory or disk used up, said in one sentence with what to change."""

from __future__ import annotations

import errno
import shutil
from contextlib import contextmanager
from pathlib import Path

# A quota and a limit on file sizes read to the user like a full disk.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# safetensors and torch write from Rust and C++: their errors carry no number, torch's (the last two) not even a reason.
FULL_WORDS = (
    "No space left on device", "Disk quota exceeded", "File too large", "PytorchStreamWriter failed", "unexpected pos",
)  # fmt: skip
# torch.OutOfMemoryError is a RuntimeError with the first of these words, its CPU allocator's error one with the second.
MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
KEPT = "Finished steps and whole checkpoints are kept: the same command goes on from there."


class StepError(RuntimeError):
    """A costly step cannot start or go on; the message names the setting or folder."""


class ModelError(StepError):
    """A model cannot be had: package absent, files damaged, or too little memory or disk."""


class TrainingError(StepError):
    """Training cannot start or has gone wrong; the message names the setting or file."""


@contextmanager
def explain(what: str, *, folder: Path, remedy: str, kind: type[Exception] = StepError):
    """Turn memory or a disk used up inside the block into one clear error; every other error passes as it is.

    Parameters
    ----------
    what : str
        The step, as the message begins.
    folder : Path
        Where the block writes.
    remedy : str
        What to do where memory is short, such as 'lower sft.device_batch in the profile'.
    kind : type
        The error to raise.

    Raises
    ------
    kind
        Memory or disk ran out; the library's own error is its cause.
    """
    try:
        yield
    except StepError:
        raise
    except Exception as error:
        reason = _find_reason(error)
        if reason is None:
            raise
        detail = str(error).strip().split("\n")[0][:200] or type(error).__name__
        if reason == "memory":
            raise kind(f"{what}: out of memory; {remedy}. {KEPT} ({detail})") from error
        raise kind(
            f"{what}: the disk of {folder} is full, or a quota or limit on file sizes is reached; make room. {KEPT} ({detail})"
        ) from error


def _find_reason(error: BaseException | None) -> str | None:
    while error is not None:
        text = str(error)
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(word in text for word in MEMORY_WORDS)):
            return "memory"
        if (isinstance(error, OSError) and error.errno in FULL) or any(word in text for word in FULL_WORDS):
            return "disk"
        error = error.__cause__ or error.__context__
    return None


def require_space(
    what: str, folder: Path, size: float, *, remedy: str = "make room", kind: type[Exception] = StepError
) -> None:
    """Stop before the work begins where the disk of `folder` (which need not exist yet) has fewer than `size` bytes free.

    Raises
    ------
    kind
        Too little room; the message tells what is needed and what is there.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise kind(f"{what}: {folder} needs {_format(size)} free, and its disk has {_format(free)}: {remedy}")


def _format(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
