"""Associations of models and people, and how far they agree."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["fluency", "ratings", "sampled"],
    submod_attrs={
        "baselines": ["list_baselines"],
        "lists": ["associate", "load_associations"],
        "metrics": ["list_metrics"],
        "precision": [
            "compare_matchings",
            "compare_stages",
            "precision_at_k",
            "score_conditions",
            "score_lists",
            "spread_precision",
            "summarise_agreement",
            "summarise_ceiling",
            "summarise_precision",
        ],
    },
)
