"""Which third-party functions the package calls, with which keywords: read from its source, never from a list kept by hand."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import transformers
from conftest import ROOT
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as TokenizerBase

PACKAGE = sorted((ROOT / "align_utils").rglob("*.py"))


@dataclass(frozen=True)
class Call:
    """One call: dotted target ('peft.PeftModel.from_pretrained'), keywords, number of positional arguments, file and line."""

    target: str
    keywords: tuple[str, ...]
    positional: int
    where: str


def find_calls(roots: set[str], paths: list[Path] = PACKAGE) -> list[Call]:
    """Calls of what is imported from `roots`: functions, classes, class methods, and methods of objects whose class is known.

    The class of an object is known where a parameter or a result is annotated with it, or the object is made by calling it.
    `**name` counts with the keywords of `name = dict(...)` in the same function; any other `**` is an error of this reader.
    """
    trees = {path: ast.parse(path.read_text()) for path in paths}
    imports = {path: _imports(tree) for path, tree in trees.items()}
    results = {name: target for path, tree in trees.items() for name, target in _results(tree, imports[path])}
    found = []
    for path, tree in trees.items():
        for function, known in _scopes(tree, imports[path], results):
            for node in _own_nodes(function):
                target = isinstance(node, ast.Call) and _target(node.func, known, results)
                if target and target.split(".")[0] in roots:
                    where = f"{path.name}:{node.lineno}"
                    found.append(Call(target, _keywords(node, function, where), _count(node), where))
    return sorted(found, key=lambda call: (call.target, call.where))


def find_model_calls(paths: list[Path] = PACKAGE) -> list[Call]:
    """Calls that hand `input_ids` to a model or its backbone, whose class no source names: target 'generate' or 'forward'.

    `**make(...)` counts with the keys of the literal that the package's function `make` returns.
    """
    found, trees = [], {path: ast.parse(path.read_text()) for path in paths}
    made = {name: keys for tree in trees.values() for name, keys in _literals(tree)}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            spread = [made.get(_last(word.value.func), []) for word in node.keywords if _is_made(word)]
            words = [word.arg for word in node.keywords if word.arg or not _is_made(word)] + [
                key for keys in spread for key in keys
            ]
            if "input_ids" in words:
                target = "generate" if isinstance(node.func, ast.Attribute) and node.func.attr == "generate" else "forward"
                found.append(Call(target, tuple(map(str, words)), _count(node), f"{path.name}:{node.lineno}"))
    return found


def _is_made(word: ast.keyword) -> bool:
    return word.arg is None and isinstance(word.value, ast.Call)


def _literals(tree: ast.AST):
    # 'place_inputs': ['input_ids', 'attention_mask', ...]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for inner in _own_nodes(node):
                if isinstance(inner, ast.Return) and isinstance(inner.value, ast.Dict):
                    yield node.name, [key.value for key in inner.value.keys if isinstance(key, ast.Constant)]


def _imports(tree: ast.AST) -> dict[str, str]:
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names}
    return names


def _results(tree: ast.AST, imports: dict[str, str]):
    # 'attach_adapter': 'peft.PeftModel'; for `-> type[X]` the result is called to make an X: 'pick_trainer()'.
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            returns = node.returns
            if isinstance(returns, ast.Subscript) and ast.unparse(returns.value) == "type":
                yield f"{node.name}()", _dotted(returns.slice, imports)
            else:
                yield node.name, _dotted(returns, imports)


def _scopes(tree: ast.Module, imports: dict[str, str], results: dict[str, str | None]):
    def visit(node, known):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            typed = {a.arg: _dotted(a.annotation, imports) for a in arguments if a.annotation is not None}
            known = {k: v for k, v in known.items() if k not in {a.arg for a in arguments}} | typed
            for inner in _own_nodes(node):
                if isinstance(inner, ast.Assign) and isinstance(inner.value, ast.Call):
                    made = _made(inner.value, known, results)
                    known |= {target.id: made for target in inner.targets if isinstance(target, ast.Name)}
        yield node, known
        for child in _children(node):
            yield from visit(child, known)

    yield from visit(tree, dict(imports))


def _children(node: ast.AST):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield child
        else:
            yield from _children(child)


def _own_nodes(node: ast.AST):
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield child
            yield from _own_nodes(child)


def _dotted(node: ast.AST | None, known: dict[str, str | None]) -> str | None:
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute) and (base := _dotted(node.value, known)):
        return f"{base}.{node.attr}"
    return None


def _target(function: ast.AST, known: dict[str, str | None], results: dict[str, str | None]) -> str | None:
    if isinstance(function, ast.Call):
        return results.get(f"{_last(function.func)}()")
    return _dotted(function, known)


def _made(call: ast.Call, known: dict[str, str | None], results: dict[str, str | None]) -> str | None:
    if target := _target(call.func, known, results):
        # A class is written with a capital; of other functions the result is taken from the annotation alone.
        return target if target.split(".")[-1][0].isupper() else results.get(target.split(".")[-1])
    return results.get(_last(call.func))


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _count(call: ast.Call) -> int:
    return len(call.args)


def _keywords(call: ast.Call, function: ast.AST, where: str) -> tuple[str, ...]:
    words = [word.arg for word in call.keywords if word.arg]
    own = function.args.kwarg.arg if isinstance(function, ast.FunctionDef) and function.args.kwarg else None
    for spread in (word.value for word in call.keywords if word.arg is None):
        for name in (node.id for node in ast.walk(spread) if isinstance(node, ast.Name) and node.id != own):
            literals = [
                node.value for node in _own_nodes(function)
                if isinstance(node, ast.Assign) and _last(node.targets[0]) == name and isinstance(node.value, ast.Call)
                and _last(node.value.func) == "dict"
            ]  # fmt: skip
            assert literals, f"{where}: the keywords of **{name} cannot be read; write them as `{name} = dict(...)`"
            words += [word.arg for literal in literals for word in literal.keywords]
    return tuple(words)


# Functions that only hand `**kwargs` on, with the functions that receive them; the last in a row take what they `pop` or `get`.
BEHIND = {
    "transformers.AutoModelForCausalLM.from_pretrained": [PreTrainedModel.from_pretrained, transformers.AutoConfig.from_pretrained],
    "transformers.AutoTokenizer.from_pretrained": [TokenizerBase.from_pretrained, TokenizerBase.__init__],
    "transformers.PreTrainedTokenizerFast": [transformers.PreTrainedTokenizerFast.__init__, TokenizerBase.__init__],
}  # fmt: skip
SPECIAL = {"bos_token", "eos_token", "pad_token", "unk_token"} & set(TokenizerBase.SPECIAL_TOKENS_ATTRIBUTES)


# Attributes that objects have and their classes do not show: the trainer wraps the model it is given with `peft_config`.
ATTRIBUTES = {
    "trl.SFTTrainer.model": "peft.PeftModel",
    "trl.SFTTrainer.accelerator": "accelerate.Accelerator",
    "trl.experimental.ppo.PPOTrainer.callback_handler": "transformers.trainer_callback.CallbackHandler",
    "peft.PeftModel.config": "transformers.PreTrainedConfig",
}


def resolve(target):
    """The thing a dotted name means, by importing as much of it as is a module."""
    for attribute, owner in ATTRIBUTES.items():
        target = target.replace(attribute + ".", owner + ".")
    parts = target.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            thing = getattr(thing, part)
        return thing
    raise AssertionError(f"{target} cannot be imported")


def named(function):
    """Keywords a function takes by name, and those it takes out of its `**kwargs` by name."""
    parameters = inspect.signature(function).parameters.values()
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    (sink,) = [p.name for p in parameters if p.kind is p.VAR_KEYWORD] or [None]
    taken = re.findall(rf'\b{sink}\.(?:pop|get|setdefault)\(\s*"(\w+)"', inspect.getsource(function)) if sink else []
    return names | set(taken)


def unknown(call):
    accepted = named(resolve(call.target)).union(*(named(function) for function in BEHIND.get(call.target, [])))
    return set(call.keywords) - accepted - (SPECIAL if "Tokenizer" in call.target else set())
