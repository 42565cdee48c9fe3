"""From the files of word association norms to strengths, splits and what the norms are like."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["describe", "links", "published"],
    submod_attrs={
        "split": [
            "describe_splits", "load_pairs", "load_run", "map_families", "pair_cultures", "report_leakage", "save_norms", "split_pairs",
        ],
        "strengths": ["describe_norms", "load_norms", "match_norms", "merge_languages", "summarise_ranks", "tabulate_cleaning"],
    },
)  # fmt: skip
