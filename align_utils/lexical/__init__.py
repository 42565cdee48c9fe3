"""Associations of models and people, and how far they agree."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fluency": ["read_neutral", "summarise_fluency"],
        "lists": ["associate", "load_associations"],
        "precision": [
            "spread_precision",
            "compare_matchings",
            "compare_stages",
            "list_precision_metrics",
            "score_conditions",
            "score_conditions_agreement",
            "summarise_ceiling",
            "summarise_precision",
        ],
        "ratings": [
            "band_ratings",
            "compare_ratings",
            "judge_human_level",
            "list_rating_metrics",
            "load_scales",
            "pair_with_people",
            "rate_conditions",
            "summarise_ratings",
        ],
        "sampled": [
            "compare_drawn",
            "contrast_panels",
            "draw_test_lists",
            "list_drawn_metrics",
            "list_participant_metrics",
            "load_participant_people",
            "load_participants",
            "score_drawn",
            "score_panels",
            "simulate",
            "summarise_drawn",
            "summarise_panels",
        ],
    },
)
