"""From the files of word association norms to strengths, splits and what the norms are like."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["describe", "overlap"],
    submod_attrs={
        "describe": ["describe_norms", "match_norms", "summarise_ranks", "tabulate_cleaning"],
        "split": [
            "describe_splits", "load_pairs", "load_run", "map_families", "merge_languages", "pair_cultures", "report_leakage", "save_norms",
            "split_pairs",
        ],
        "strengths": ["load_norms"],
    },
)  # fmt: skip
