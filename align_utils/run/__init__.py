"""Running notebooks, publishing numbers, Colab, what a machine can do."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "colab": ["move_address", "setup"],
        "doctor": ["check_data", "examine_profile"],
        "publish": ["rewrite"],
        "runner": ["RunError", "list_notebooks", "run_notebook"],
    },
)
