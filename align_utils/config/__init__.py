"""What a run is: profiles, models, cultures, languages and stages, read from YAML and checked."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["profiles", "settings", "stages"],
    submod_attrs={
        "profiles": ["Config", "PACKAGE_ROOT", "load", "overlay_config", "read_profile"],
        "settings": ["ConfigError"],
        "stages": ["FOREIGN", "PREFERENCE", "list_contrasts", "list_stages", "list_trained"],
    },
)
