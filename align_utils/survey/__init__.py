"""The World Values Survey: items, people's answers, models' answers, and the distances between them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["answers", "debias", "items", "respondents", "servers"],
    submod_attrs={
        "items": ["choose_items"],
        "human": ["load_human"],
        "respondents": ["draw_halves"],
        "answers": ["average_orders", "describe_readouts", "load_answers"],
        "ask": ["ask_survey"],
        "aligned": [
            "count_aligned",
            "describe_paper",
            "find_chance",
            "judge_items",
            "list_aligned_metrics",
            "list_answers",
            "name_answerer",
        ],
        "distances": [
            "add_baselines",
            "build_baselines",
            "choose_size",
            "measure_baselines",
            "measure_distances",
            "pick_model",
            "rank_tension",
        ],
        "factor_map": ["describe_places", "list_countries", "load_atlas", "summarise_places"],
        "map": ["load_axes", "score_components"],
        "paper": ["compare_with_paper"],
        "power": ["summarise_power"],
        "seeds": ["summarise_seeds"],
        "shifts": [
            "add_contrast",
            "compare_controls",
            "find_controls",
            "list_items",
            "list_shift_metrics",
            "measure_shifts",
            "pick_topics",
            "state_claims",
            "summarise_shifts",
            "summarise_topics",
        ],
        "styles": ["score_styles", "summarise_styles"],
    },
)
