"""What a run keeps: the page of a notebook, stored steps, frames and text files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "page": [
            "Page", "Sentence", "list_records", "load_manifest", "load_metrics", "open_page", "pick_record",
        ],
        "steps": ["find_step", "make_step", "note_made", "note_read", "progress", "read_frame", "save_frame"],
    },
)  # fmt: skip
