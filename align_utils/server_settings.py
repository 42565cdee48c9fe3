"""The fields of a model behind a URL (a YAML file of notebooks/models with `loader: server`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from align_utils.settings import Strict


class ServerModel(Strict):
    """One untuned model that an OpenAI-compatible server answers for; nothing of it is loaded or trained here.

    There is no field for a key: it is read from the environment variable that `key_variable` names, never from a file.
    """

    name: str
    loader: Literal["server"]
    # Name under which the server knows the model.
    model: str = Field(min_length=1)
    # Environment variable with the server's address, such as http://localhost:8000/v1; it precedes `base_url`.
    url_variable: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    base_url: str | None = None
    key_variable: str | None = Field(default=None, pattern=r"^[A-Z][A-Z0-9_]*$")
    # How many of the likeliest next tokens to ask for. vLLM gives 20 unless it is started with --max-logprobs.
    top_logprobs: int = Field(default=20, ge=1)
    # More fields of every request, for what one server alone understands (llama.cpp: cache_prompt).
    extra: dict[str, bool | int | float | str] = Field(default_factory=dict)
    concurrency: int = Field(default=16, ge=1)
    # Seconds: for one answer, and before the first repetition (doubled with each).
    timeout: float = Field(default=120, gt=0)
    backoff: float = Field(default=1, ge=0)
    retries: int = Field(default=5, ge=0)
    licence: str
