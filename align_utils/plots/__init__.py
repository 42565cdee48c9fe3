"""A tidy frame in, a matplotlib figure out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "common": ["label_panels", "plot_intervals", "use_style"],
        "lexical": ["plot_population", "plot_precision", "plot_ratings"],
        "norms": ["plot_directions", "plot_overlap", "plot_strength_by_rank", "plot_structure"],
        "survey": ["plot_answers", "plot_counts", "plot_map", "plot_pages", "plot_styles"],
        "training": ["plot_loss", "plot_methods", "plot_reward"],
    },
)
