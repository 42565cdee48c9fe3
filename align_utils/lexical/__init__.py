"""Associations of models and people, and how far they agree."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "agreement", "bands", "baselines", "drawn", "fluency", "lists", "participants", "precision", "ratings", "sentences",
    ],
    submod_attrs={
        "baselines": ["list_baselines"],
        "lists": ["associate_run", "load_decodings"],
        "precision": ["compare_stages", "precision_at_k", "score_conditions"],
        "sentences": ["record_estimates"],
    },
)  # fmt: skip
