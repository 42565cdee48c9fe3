"""From the files of word association norms to strengths, splits and what the norms are like."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "describe": [
            "choose_tokens",
            "compare_cues",
            "compare_partners",
            "count_types",
            "describe_asymmetry",
            "measure_cues",
            "pair_directions",
            "pick_extremes",
            "show_lists",
            "stack_measures",
            "summarise_domains",
            "summarise_partners",
            "take_complete",
        ],
        "links": ["link_words", "load_translations"],
        "published": ["describe_cues", "measure_cue_stats"],
        "split": [
            "save_norms",
            "describe_splits",
            "load_pairs",
            "load_run",
            "map_families",
            "pair_cultures",
            "report_leakage",
            "split_pairs",
        ],
        "strengths": ["describe_norms", "load_norms", "match_norms", "merge_languages", "summarise_ranks", "tabulate_cleaning"],
    },
)
