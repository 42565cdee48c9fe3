"""From the files of word association norms to strengths, splits and what the norms are like."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["describe", "overlap", "words"],
    submod_attrs={
        "describe": ["describe_norms", "match_norms", "summarise_ranks", "tabulate_cleaning"],
        "split": ["describe_splits", "load_run", "load_splits", "map_families", "pair_cultures", "report_leakage", "split_run"],
        "strengths": ["load_norms"],
        "words": ["list_words", "pick_concepts"],
    },
)  # fmt: skip
