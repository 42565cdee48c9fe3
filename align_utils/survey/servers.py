"""Models behind a URL, asked the survey by label: requests, their cache, and bounds for what a list of likeliest tokens leaves open."""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock

import numpy as np
import openai
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.settings import ServerModel
from align_utils.store.steps import find_step, hash_settings, make_step, note_read, progress, save_frame
from align_utils.survey.answers import ANSWERS, tabulate_answers
from align_utils.survey.items import Question, list_questions

# Bumped when what is asked of a server, or what is made of its answers, changes.
SERVER_VERSION, BASELINE_VERSION = 1, 1
# Half a second before the first repetition, doubled with each up to eight, or what the server asks for.
ATTEMPTS = 8
# A label may follow the prompt at once or after a space; the probabilities are added up.
SPACES = ("", " ")
# A beginning of a label with less probability than this is not followed by a request of its own: it is bounded.
FOLLOW = 1e-3
# One answer in so many may be unusable.
SPARE = 100
# No model gives a likely token less than this: lower ones (-inf, -9999, the smallest float) stand for 'not known'.
PLACEHOLDER = -100.0
# What the reading of a JSON value raises where it is not what it should be.
MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class ServerError(RuntimeError):
    """A server cannot be reached, refuses, or answers something else than log-probabilities."""


def ask_baselines(cfg: Config, items: pd.DataFrame) -> list[str]:
    """Ask every baseline of the profile all items in all orders into `runs/<profile>/survey/<baseline>.parquet` (ANSWERS).

    What is stored is not asked again. Returned is a sentence for each baseline without an address and without stored answers.
    """
    sentences, asked = [], list_questions(cfg, items)
    for name, source in progress(cfg.baselines.items(), desc="baselines", unit="model", leave=False):
        path, folder = cfg.runs / "survey" / f"{name}.parquet", _find_folder(cfg, name)
        # Not the address, nor the pace: the answers do not depend on them.
        own = {"version": SERVER_VERSION} | source.model_dump(include={"model", "top_logprobs", "extra"})
        questions = {"asked": [[q.prompt, list(q.order), list(q.codes)] for q in asked]}
        settings = {"version": BASELINE_VERSION, "source": hash_settings(own), "questions": hash_settings(questions)}
        if not find_step(folder, settings):
            if not os.environ.get(source.url_variable):
                path.unlink(missing_ok=True)  # answers to other questions must not stand beside these
                sentences.append(
                    f"baseline {name} was not asked: start its server, set {source.url_variable}=http://<host>:<port>/v1, then "
                    f"make -W notebooks/05_wvs_survey.ipynb reproduce PROFILE={cfg.profile.name}"
                )
                continue
            with make_step(folder, settings) as work:
                cache = folder.with_name(f"{name}-requests-{settings['source']}.jsonl")
                scores, bounds = score_server_labels(source, asked, cache)
                save_frame(bounds, work / "bounds.parquet")
                frame = tabulate_answers(asked, scores).assign(readout="label", refusal_mass=np.nan)
                save_frame(frame, work / "answers.parquet")
        frame = pd.read_parquet(folder / "answers.parquet")
        frame = frame.assign(model=name, adapter="none", stage="zero_shot", seed=cfg.profile.seed)
        save_frame(ANSWERS.validate(frame[list(ANSWERS.columns)]), path)
    return sentences


def describe_bounds(cfg: Config) -> pd.DataFrame:
    """How far the lists of the baselines that were asked leave their answers open, a row a model and language.

    `without any` counts the questions of which no label was seen: their answers are taken as uniform. The errors are of a label's
    share of the option mass.
    """
    rows = []
    for name in cfg.baselines:
        if not (cfg.runs / "survey" / f"{name}.parquet").is_file():
            continue
        folder = _find_folder(cfg, name)
        labels = pd.read_parquet(note_read(folder / "answers.parquet")).groupby("language").size()
        for language, part in pd.read_parquet(note_read(folder / "bounds.parquet")).groupby("language", sort=False):
            missing, error = part["missing"].sum() / labels[language], part["error"]
            rows.append((name, language, len(part), missing, int((part["seen"] == 0).sum()), error.mean(), error.max()))
    columns = ["model", "language", "n", "labels not seen", "without any", "mean error", "largest error"]
    return pd.DataFrame(rows, columns=columns)


def _find_folder(cfg: Config, name: str) -> Path:
    return cfg.runs / "steps" / "survey" / f"{name}_server"


def score_server_labels(source: ServerModel, asked: Sequence[Question], cache: Path) -> tuple[list[np.ndarray], pd.DataFrame]:
    """Probability of each label of each question, as `ask.score_labels`, as far as the server's lists tell it: the lower bounds.

    Where no label was seen at all, all have the same tiny number. Beside it a row a question: `language, persona, question, seen` (mass
    of the labels), `unseen` (what the bounds allow beyond it), `missing` (labels not seen), `error` (how far a label's share may be off).
    A ServerError where no label was seen of any question, or more than one answer in SPARE cannot be used.
    """
    tops: dict[str, dict[str, float]] = {}
    wanted = [q.prompt for q in asked]
    while wanted:
        tops |= ask_next(source, wanted, cache, spare=len(asked) // SPARE - sum(not top for top in tops.values()))
        read = [bound_labels(q.prompt, [str(place + 1) for place in range(len(q.order))], tops) for q in asked]
        wanted = [prompt for _, _, missing in read for prompt in missing]
    rows = [
        (*q.group, low.sum(), (high - low).sum(), int((low == 0).sum()), _bound_error(low, high))
        for q, (low, high, _) in zip(asked, read, strict=True)
    ]
    bounds = pd.DataFrame(rows, columns=["language", "persona", "question", "seen", "unseen", "missing", "error"])
    if not (bounds["seen"] > 0).any():
        raise ServerError(
            f"model '{source.name}': no label of any question is among the {source.top_logprobs} likeliest tokens after it; raise "
            f"`top_logprobs`, or the server puts the prompt into a chat template (likeliest after the first: {list(tops[asked[0].prompt])[:5]})"
        )
    return [low if low.sum() > 0 else np.full(len(low), 1e-12) for low, _, _ in read], bounds


def bound_labels(
    prompt: str, labels: Sequence[str], tops: dict[str, dict[str, float]]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Lower and upper bounds, shape (n,), for the probability of each label after a prompt, and the prompts that `tops` still lacks.

    `tops` maps prompts to their likeliest next tokens (`ask_next`). A token that is a whole label counts for it; one that begins a
    label (a space, or the '1' of '10') is followed to the prompt with that token added. What goes on from '1' to '10' is not an
    answer '1'. Where a token is not in a list, its probability lies between 0 and the lowest one of the list, and below what the
    list leaves of one.

    >>> from math import log
    >>> low, high, missing = bound_labels("Q:", ["1", "2"], {"Q:": {"1": log(0.5), " 2": log(0.25)}})
    >>> low.round(2).tolist(), high.round(2).tolist(), missing
    ([0.5, 0.25], [0.75, 0.5], [])
    """
    forms = {space + label: index for index, label in enumerate(labels) for space in SPACES}
    missing: list[str] = []

    def follow(before: str) -> tuple[np.ndarray, np.ndarray]:
        # Given what was written before, the probability that each label comes of it; what is complete already does not count.
        low, high = np.zeros(len(labels)), np.zeros(len(labels))
        rest = {form[len(before) :]: index for form, index in forms.items() if form.startswith(before) and form != before}
        if rest and prompt + before not in tops:
            missing.append(prompt + before)
        if not rest or prompt + before not in tops:
            return low, high
        shares = {token: float(np.exp(value)) for token, value in tops[prompt + before].items()}
        left, lowest = max(0.0, 1 - sum(shares.values())), min(shares.values(), default=1.0)
        for token, share in shares.items():
            begun = {index for form, index in rest.items() if form.startswith(token) and form != token}
            if not token or not (begun or token in rest):
                continue
            inside = np.zeros(len(labels)), np.isin(np.arange(len(labels)), list(begun)).astype(float)
            if share >= FOLLOW:
                inside = follow(before + token)
            low, high = low + share * inside[0], high + share * inside[1]
            if token in rest:
                low[rest[token]] += share * max(0.0, 1 - inside[1].sum())
                high[rest[token]] += share * max(0.0, 1 - inside[0].sum())
        for index in set(rest.values()):
            ways = {form[:end] for form, of in rest.items() if of == index for end in range(1, len(form) + 1)}
            high[index] += min(len(ways - set(shares)) * lowest, left)
        return low, np.minimum(high, 1.0)

    return *follow(""), missing


def _bound_error(low: np.ndarray, high: np.ndarray) -> float:
    if low.sum() == 0:
        return 1.0
    share, others = low / low.sum(), high.sum() - high
    most = high / np.maximum(high + low.sum() - low, 1e-300)
    least = low / np.maximum(low + others, 1e-300)
    return float(np.maximum(most - share, share - least).max())


def ask_next(source: ServerModel, prompts: Sequence[str], cache: Path, *, spare: int = 0) -> dict[str, dict[str, float]]:
    """Prompt to {text of a likely next token: log-probability}; what the cache holds is not asked again.

    The cache (JSON lines, one an answer, appended as it comes; what is damaged is asked again) is of one model and one length of the
    list. Up to `spare` unusable answers become empty lists, which are not kept. A ServerError says in one sentence what is wrong
    with the server, or with one unusable answer too many.
    """
    known, bad, lock = {}, [], Lock()
    for line in cache.read_bytes().split(b"\n") if cache.is_file() else []:
        with suppress(ServerError, *MALFORMED):
            entry = json.loads(line)
            known[entry["prompt"]] = check_list(entry["top"].items())
    keys = {prompt: hashlib.sha256(prompt.encode()).hexdigest()[:24] for prompt in prompts}
    if wanted := [prompt for prompt, key in keys.items() if key not in known]:
        client, at = _connect(source)
        cache.parent.mkdir(parents=True, exist_ok=True)

        def ask(prompt: str):
            known[keys[prompt]] = {}
            try:
                # At temperature 1: some servers give the log-probabilities of their sampling. The token that is drawn is not used.
                answer = client.completions.with_raw_response.create(
                    model=source.model, prompt=prompt, max_tokens=1, temperature=1, logprobs=source.top_logprobs, extra_body=source.extra
                )  # fmt: skip
                known[keys[prompt]] = top = parse_top(answer.http_response.json())
            except (openai.OpenAIError, ServerError, ValueError, RecursionError) as error:
                told, is_lasting = _explain(error, source)
                bad.append(f"{at}: {told}")
                if is_lasting or len(bad) > spare:
                    raise ServerError(f"{bad[-1]}. Answers so far are kept: run again to go on") from error
            else:
                with lock:
                    # The line end comes first: what an earlier run left unfinished is a line of its own.
                    file.write("\n" + json.dumps({"prompt": keys[prompt], "top": top}))
                    file.flush()

        with client, cache.open("a") as file, ThreadPoolExecutor(source.concurrency) as pool:
            for _ in progress(pool.map(ask, wanted), total=len(wanted), desc=source.name, unit="prompt", leave=False):
                pass
        if bad:
            warnings.warn(f"{len(bad)} of {len(wanted)} answers count as if nothing had been seen; {bad[-1]}", stacklevel=2)
    return {prompt: known[key] for prompt, key in keys.items()}


def _connect(source: ServerModel) -> tuple[openai.OpenAI, str]:
    """A client with address and key, from the model's own variables alone, and what errors call the server."""
    at, given = f"model '{source.name}'", os.environ.get(source.url_variable, "").rstrip("/")
    # Scheme, user and password (never shown), host, port, path.
    parts = re.fullmatch(r"(https?://)(?:[^/]*@)?([^/:@\[\]]+|\[[\da-f:]+\])(:\d{1,5})?(/.*)?", given)
    if not parts:
        raise ServerError(
            f"{at}: expected an address such as http://localhost:8000/v1 in {source.url_variable}, found '{given}'"
        )
    key = os.environ.get(source.key_variable, "").strip() if source.key_variable else "none"
    if not (key and key.isascii() and key.isprintable()):
        raise ServerError(f"{at}: the server's key is read from {source.key_variable}, which is not set or holds no key")
    path = "" if parts[4] else "/v1"
    at += f" at {''.join(parts.groups(''))}{path}"
    try:
        # Nothing of the OPENAI_ variables, which are another server's, and no proxy for this machine.
        http = openai.DefaultHttpxClient(trust_env=parts[2] not in {"localhost", "127.0.0.1", "[::1]", "0.0.0.0"})
        own = {"api_key": key, "organization": "", "project": "", "max_retries": ATTEMPTS - 1, "timeout": source.timeout}
        return openai.OpenAI(base_url=given + path, http_client=http, **own), at
    except Exception as error:  # httpx has several kinds for what an address or a proxy's cannot be
        told = "correct it, or the variables http_proxy, https_proxy and all_proxy (expected http://<host>:<port>)"
        raise ServerError(f"{at}: {error}; {told}") from error


def parse_top(answer) -> dict[str, float]:
    """Likeliest first tokens of a completion: text to log-probability, as `check_list` takes them.

    `logprobs` of the body's choice holds `top_logprobs`, a list with a mapping for each token (OpenAI's legacy completions, vLLM), or
    `content`, a list of tokens with a list `top_logprobs` each (llama.cpp).

    >>> parse_top({"choices": [{"logprobs": {"top_logprobs": [{" 1": -0.5}]}}]})
    {' 1': -0.5}
    >>> parse_top({"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "Ġ1", "logprob": -0.5}]}]}}]})
    {' 1': -0.5}
    """
    try:
        held = answer["choices"][0]["logprobs"]
        first = held["content"][0]["top_logprobs"] if held.get("content") else held["top_logprobs"][0]
        if isinstance(first, dict):
            return check_list(first.items())
        # Where bytes are given they are the token; its text may stand for them only roughly.
        texts = [bytes(list(e["bytes"])).decode("utf-8", "replace") if e.get("bytes") else e["token"] for e in first]
        return check_list(zip(texts, [entry["logprob"] for entry in first], strict=True))
    except MALFORMED as error:
        raise ServerError(
            "the answer holds no log-probabilities of the likeliest tokens; vLLM and llama.cpp give them through /v1/completions, "
            f"chat servers and text-generation-inference do not. It said: {json.dumps(answer)[:300]}"
        ) from error


def check_list(pairs: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """Text to log-probability: forms of the vocabulary decoded, tokens of the same text added up, placeholders left out.

    Numbers that are no log-probabilities, ids in place of texts, and lists that the server's sampling has cut or sharpened are a
    ServerError.
    """
    top, padded = {}, False
    for token, value in pairs:
        if value is None or float(value) <= PLACEHOLDER:
            padded = True
            continue
        # 'Ġ1' and '▁1' are ' 1' in byte-level and sentencepiece vocabularies, 'bytes:\x31' is '1' of vLLM.
        text = re.sub("[Ġ▁]", " ", token).removeprefix("bytes:")
        text = re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), text)
        top[text] = float(np.logaddexp(top[text], value)) if text in top else float(value)
    shares = {text: float(np.exp(min(value, 50.0))) for text, value in top.items()}
    mass, least = sum(shares.values()), min(shares.values())  # an empty list is a ValueError
    if not mass < 1.01:  # rounding may lift the sum a little above one; logits in their place lift it far
        raise ServerError(f"the answer holds numbers that are no log-probabilities: as probabilities they sum to {mass:.3g}")
    # All of the mass on what is left of a padded list; more of it elsewhere than a million tokens like the last could hold.
    ids = any(text.startswith("token_id:") for text in top)
    if ids or (mass > 1 - 1e-6 and (padded or len(top) == 1)) or 1 - mass > 0.02 + 1e6 * least:
        raise ServerError(
            f"the list is not of the model's likeliest tokens ({', '.join(map(repr, list(top)[:3]))}, in all {mass:.4f} of the probability, the "
            f"last {least:.1e}); expected " + ("texts, not ids (vLLM: without --return-tokens-as-token-ids)" if ids else
            "log-probabilities before temperature, top_k and top_p (vLLM: --logprobs-mode raw_logprobs)")
        )  # fmt: skip
    return top


BOOLEAN = "for a server that wants a boolean set `extra: {{logprobs: true, top_logprobs: {top_logprobs}}}`"
# Kinds of errors, whether they are of the server as a whole rather than of one prompt, and what to do about them.
REMEDIES = (
    (openai.APITimeoutError, True, "The server is slow: no answer within {timeout:g} s, asked {n} times. Raise `timeout` or lower `concurrency`"),
    (openai.APIConnectionError, True,
     f"The server is down, tried {{n}} times: start it or correct {{url_variable}}. If it breaks off, see its log; {BOOLEAN}"),
    ((openai.AuthenticationError, openai.PermissionDeniedError), True,
     "The key is refused; it is read from the variable that `key_variable` names ({key_variable})"),
    (openai.NotFoundError, True, "Expected a server that knows '{model}' and an address that ends in /v1"),
    (openai.RateLimitError, True, "Too many requests, asked {n} times: lower `concurrency` ({concurrency}) or wait"),
    (openai.InternalServerError, False, "The server fails, asked {n} times: see its log"),
    (openai.OpenAIError, False, f"The request is refused. If the list is too long, lower `top_logprobs` ({{top_logprobs}}); {BOOLEAN}"),
    (ServerError, False, ""),
    (Exception, False, "The answer is not JSON. Is {url_variable} the address of an OpenAI-compatible server (…/v1)?"),
)  # fmt: skip


def _explain(error: Exception, source: ServerModel) -> tuple[str, bool]:
    """What was found and what to do about it, and whether it will be so for every prompt."""
    found, (lasting, remedy) = str(error), next(told for kinds, *told in REMEDIES if isinstance(error, kinds))
    if isinstance(error, openai.APIStatusError):
        leads = f", after a redirect to {error.response.url}" if error.response.history else ""
        found = f"answer {error.status_code}{leads}: {' '.join(error.response.text.split())[:300]}"
    elif isinstance(error, openai.APIConnectionError):
        found = str(error.__cause__ or error)
    return f"{found}. {remedy.format(**source.model_dump(), n=ATTEMPTS)}".removesuffix(". "), lasting
