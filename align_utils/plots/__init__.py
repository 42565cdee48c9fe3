"""A tidy frame in, a matplotlib figure out; `title` and `mark` are its title and its watermark."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["lexical", "norms", "survey"],
    submod_attrs={
        "common": ["label_panels", "plot_intervals", "use_style"],
        "lexical": ["plot_precision", "plot_rating_gaps"],
        "norms": ["plot_strength_by_rank"],
        "survey": ["plot_counts", "plot_items"],
        "training": ["plot_frontier", "plot_loss", "plot_methods", "plot_reward"],
    },
)
