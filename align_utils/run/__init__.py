"""Running notebooks, publishing numbers, Colab."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "colab": ["setup"],
        "publish": ["rewrite"],
        "runner": ["RunError", "list_notebooks", "print_plan", "run_notebook"],
    },
)
