"""What a notebook has read and made since its page was opened."""

from pathlib import Path

_READ: set[Path] = set()
_MADE: set[Path] = set()


def open_ledger() -> None:
    """Begin anew: a page was opened."""
    _READ.clear()
    _MADE.clear()


def note_read(path: Path) -> Path:
    """Count a file among the inputs of all that the page shows from now on; returns it. Every reader of a data file calls this."""
    if not _is_work(path):
        _READ.add(path.resolve())
    return path


def note_made(path: Path) -> Path:
    """Count a frame or an adapter's folder among what this notebook made; returns it."""
    if not _is_work(path):
        _MADE.add(path.resolve())
    return path


def list_read() -> list[Path]:
    """Files read since the page was opened, sorted."""
    return sorted(_READ)


def list_made() -> list[Path]:
    """Files and folders made since the page was opened, sorted."""
    return sorted(_MADE)


def _is_work(path: Path) -> bool:
    # Unfinished steps lie in hidden folders: they are nobody's input.
    return any(part.startswith(".") for part in path.parts[:-1])
