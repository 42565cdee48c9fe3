"""Base models and their adapters: loaded on the hardware at hand, swapped, and proved to have an effect."""

from __future__ import annotations

import gc
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from huggingface_hub import constants, try_to_load_from_cache
from peft import PeftModel
from tokenizers import Tokenizer, models
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

from align_utils.config.settings import ModelSource
from align_utils.models.gemma_gguf import CONVERSION, SPACE, convert_gguf, finish_tokenizer, import_package, wrap_tokenizer
from align_utils.store.steps import ModelError, explain, hash_file, require_space

FEW_ROWS = 128
# Rows of an output layer that are made float32 at once.
HEAD_ROWS = 16384
# What adapters are compared on when they are loaded.
PROBE = "When people hear the word"


def pick_device() -> tuple[torch.device, torch.dtype, str]:
    """Device, dtype and the reason in words: CUDA with bfloat16 where the card has it, else float16; float32 on a CPU."""
    if torch.cuda.is_available():
        # Emulated bfloat16 does not count: torch says yes to it on a T4 too, where it is slow and unsloth takes float16.
        wide = torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = torch.bfloat16 if wide else torch.float16
        return (
            torch.device("cuda"),
            dtype,
            f"{torch.cuda.get_device_name()}; {'bf16 supported' if wide else 'no bf16, so fp16'}",
        )
    return torch.device("cpu"), torch.float32, f"no GPU found; {torch.get_num_threads()} threads, fp32"


def describe_device() -> str:
    """Device, dtype and the reason in one line."""
    device, dtype, reason = pick_device()
    return f"device {device.type}, {str(dtype).removeprefix('torch.')} ({reason}); torch {torch.__version__.split('+')[0]}"


def load_base(source: ModelSource, *, seed: int, plain: bool = False):
    """Load a base model and its tokenizer.

    Parameters
    ----------
    source : ModelSource
        Entry of `notebooks/settings/models/`. `tiny` makes random weights on the spot from `seed`; `gguf` converts a package's GGUF
        once into the cache (`ALIGN_CACHE`, default `~/.cache/align-companion`); `transformers` takes a hub id or a folder.
    seed : int
        Seed of the tiny model's weights; the other loaders do not draw.
    plain : bool
        To be merged and written: in the type of its files, on the CPU.

    Returns
    -------
    (PreTrainedModel, PreTrainedTokenizerBase)
        Model in evaluation mode on the device of `pick_device`; tokenizer padding on the left, pad token other than eos.

    Raises
    ------
    ModelError
        The package is not installed, its checksum differs, the hub id or folder cannot be read, or memory or disk do not suffice.
    """
    _require_space(source)
    # A trainer is a ring of references: without this the last stage's model would still hold its memory.
    gc.collect()
    torch.cuda.empty_cache()
    remedy = "close other programs, or take a profile with a smaller model or one in 4 bits"
    with explain(f"model '{source.name}'", folder=Path(constants.HF_HUB_CACHE), remedy=remedy, kind=ModelError):
        return _load(source, seed, plain)


def _load(source: ModelSource, seed: int, plain: bool):
    device, dtype, _ = (torch.device("cpu"), "auto", "") if plain else pick_device()
    if source.backend == "unsloth":
        return _load_unsloth(source)
    if source.loader == "tiny":
        model, tokenizer = _make_tiny(seed)
    else:
        folder = convert_gguf(source) if source.loader == "gguf" else source.source
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, trust_remote_code=False)
        except OSError as error:
            raise ModelError(f"model '{source.name}': {folder} cannot be loaded as safetensors: {error}") from error
    _check_padding(tokenizer, source)
    if plain:
        return model.eval(), tokenizer
    if device.type == "cpu":
        _speed_head(model)
    if model.dtype != torch.float32:
        _widen_head(model)
    return model.to(device).eval(), tokenizer


def hash_base(source: ModelSource, *, seed: int) -> str:
    """Identity of a base model for step keys: the source's checksum, the conversion and, for `tiny`, the seed."""
    if source.loader == "tiny":
        return f"tiny-{CONVERSION}-{seed}"
    if source.loader == "gguf":
        return f"{import_package(source).EXPECTED_SHA256}-{CONVERSION}"
    folder = Path(source.source)
    return hash_file(folder) if folder.is_dir() else f"{source.source}-{source.backend}-{source.load_in_4bit}"


def attach_adapter(model, folder: Path, name: str, *, trainable: bool = False) -> PeftModel:
    """Add a stored LoRA adapter to a model under a name; a model that has adapters gets one more."""
    if isinstance(model, PeftModel):
        return _add_adapter(model, folder, name, trainable)
    return PeftModel.from_pretrained(model, str(folder), adapter_name=name, is_trainable=trainable)


def _add_adapter(model: PeftModel, folder: Path, name: str, trainable: bool) -> PeftModel:
    model.load_adapter(str(folder), adapter_name=name, is_trainable=trainable)
    return model


@contextmanager
def use_adapter(model, name: str | None):
    """Answer with one adapter inside the block; `None` means the bare base model."""
    if name is None:
        with model.disable_adapter() if isinstance(model, PeftModel) else nullcontext():
            yield model
        return
    before = model.active_adapter
    model.set_adapter(name)
    try:
        yield model
    finally:
        model.set_adapter(before)


@torch.inference_mode()
def check_adapters(model, tokenizer, folders: dict[str, Path]) -> None:
    """Prove on one probe that every attached adapter changes the model, and different ones differently; else ModelError names its folder.

    An adapter that answers exactly as the base model is untrained or was not applied; two of unlike weights that answer alike were not swapped.
    """
    inputs = tokenizer(PROBE, return_tensors="pt").to(model.device)

    def answer(name: str | None) -> torch.Tensor:
        with use_adapter(model, name):
            return model(**inputs, logits_to_keep=1).logits[0, -1]

    base, seen = answer(None), {}
    for name, folder in folders.items():
        logits, weights = answer(name), hash_file(folder / "adapter_model.safetensors")
        if torch.equal(logits, base):
            raise ModelError(
                f"adapter '{name}' ({folder}) changes nothing: it answers a probe exactly as the base model does, so it is untrained "
                "or was not applied. Delete that folder and train it again (notebooks 02 and 03)"
            )
        for other, (known, before) in seen.items():
            if weights != known and torch.equal(logits, before):
                raise ModelError(
                    f"adapters '{other}' and '{name}' hold different weights and answer a probe exactly alike: swapping them has no "
                    f"effect, so one of them was not applied ({folder})"
                )
        seen[name] = (weights, logits)


def _make_tiny(seed: int):
    # One token a character: ASCII, Chinese punctuation and the 3,755 most common hanzi (GB 2312, level 1: rows 16 to 55).
    hanzi = bytes(b for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF) for b in (row, cell)).decode("gb2312", "ignore")
    characters = [chr(c) for c in range(33, 127)] + list("，、。：；？！“”（）") + [SPACE, "\n"] + list(hanzi)
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokens += list(dict.fromkeys(characters))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    inner = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    inner.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>"])
    tokenizer = wrap_tokenizer(finish_tokenizer(inner, vocabulary["<bos>"]))
    settings = Gemma3TextConfig(
        vocab_size=len(tokens), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=1024, sliding_window=512,
        pad_token_id=0, eos_token_id=1, bos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Gemma3ForCausalLM(settings)
    return model, tokenizer


def _speed_head(model) -> None:
    # For few rows (a decoding step) the product with a vocabulary of 262,144 takes half the time the other way round.
    head = model.get_output_embeddings()

    def project(hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.flatten(0, -2)
        if len(rows) > FEW_ROWS or head.bias is not None:
            return nn.functional.linear(hidden, head.weight, head.bias)
        return (head.weight @ rows.T).T.contiguous().unflatten(0, hidden.shape[:-1])

    head.forward = project


def _widen_head(model) -> None:
    """Logits in float32 from 16-bit weights: rounded to bfloat16 a logit of 20 is off by up to 0.06, and near rivals are tied."""
    head = model.get_output_embeddings()

    def multiply(rows: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(rows, block.float())

    def project(hidden: torch.Tensor) -> torch.Tensor:
        # In blocks, and with gradients each block once more on the way back, so that no second copy of the layer is held. Autocast
        # (a training in float16) would narrow the product again.
        with torch.autocast(hidden.device.type, enabled=False):
            rows, blocks = hidden.float(), head.weight.split(HEAD_ROWS)
            if torch.is_grad_enabled() and rows.requires_grad:
                parts = [checkpoint(multiply, rows, block, use_reentrant=False) for block in blocks]
            else:
                parts = [multiply(rows, block) for block in blocks]
            logits = torch.cat(parts, dim=-1)
            return logits if head.bias is None else logits + head.bias.float()

    head.forward = project


def _require_space(source: ModelSource) -> None:
    """Before a download: the hub's own check only warns, and goes on until the disk is full."""
    if not source.disk_gb or Path(source.source).is_dir() or try_to_load_from_cache(source.source, "config.json"):
        return
    remedy = "make room or set HF_HOME=<folder>"
    require_space(f"model '{source.name}'", Path(constants.HF_HUB_CACHE), source.disk_gb * 1e9, remedy=remedy, kind=ModelError)


def _load_unsloth(source: ModelSource):
    try:
        from unsloth import FastLanguageModel
    except ImportError as error:
        raise ModelError(
            f"model '{source.name}' uses the unsloth backend: install the extra `gpu` on a CUDA machine"
        ) from error
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=source.source, max_seq_length=1024, dtype=None, load_in_4bit=source.load_in_4bit
    )
    tokenizer.padding_side = "left"
    _check_padding(tokenizer, source)
    return model.eval(), tokenizer


def _check_padding(tokenizer, source: ModelSource) -> None:
    if source.pad_token:
        tokenizer.pad_token = source.pad_token
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise ModelError(f"model '{source.name}': PPO needs a pad token other than eos; name one by `pad_token` in its YAML")
