"""trl's critic-free trainers with lists of our own making: a prompt is read once for its group, a list stops at its line's end.

`CreditedGRPO` gives every response of a list its own part of the reward.
"""

import numpy as np
import torch
from accelerate import PartialState
from trl import GRPOTrainer, RLOOTrainer

from align_utils.models.decode import continue_rows, draw_tokens, find_stop_tokens
from align_utils.store.steps import TrainingError
from align_utils.training.job import POLICY
from align_utils.training.reward import ListReward, measure_gains
from align_utils.training.sft import has_plain_head, refuse_rewritten, score_tokens

refuse_rewritten(GRPOTrainer, RLOOTrainer)


def _widen_scores(model):
    # From 16-bit logits trl would round the logarithms too, and of a policy near its reference nothing of the KL would be left.
    def read(**given):
        output = model(**given)
        output.logits = output.logits.float()
        return output

    return read


class _Groups:
    """What both trainers share; trl's own methods of these names do the same for any model, task and number of processes."""

    def _is_over(self, tokens: list[int], stops: set[int]) -> bool:
        return tokens[-1] in stops

    def _draw_groups(self, prompt_ids: list[list[int]]) -> list[list[int]]:
        tokenizer, size = self.processing_class, self.num_generations
        asked, stops = prompt_ids[::size], set(find_stop_tokens(tokenizer))
        if prompt_ids != [ids for ids in asked for _ in range(size)]:
            raise TrainingError("trl did not put the lists of a cue together: the reward would be compared across cues")
        drawn: list[list[float]] = [[] for _ in prompt_ids]

        def pick(scores, _, rows, __):
            tokens = draw_tokens(scores, torch.rand(len(scores), device=scores.device), temperature=self.temperature)
            scores = scores / self.temperature
            logs = scores.gather(1, tokens[:, None]).squeeze(1) - scores.logsumexp(dim=-1)
            for row, log in zip(rows, logs.tolist(), strict=True):
                drawn[row].append(log)
            return tokens

        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        # unsloth's models keep no cache while they train.
        lists = continue_rows(
            model.eval(), tokenizer.pad_token_id, asked, pick=pick, copies=size,
            ends=lambda _, tokens: self._is_over(tokens, stops), max_new_tokens=self.max_completion_length,
        )  # fmt: skip
        model.train(was_training)
        self._drawn = [log for row in drawn for log in row]
        return lists

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, **others
    ):
        model = self.accelerator.unwrap_model(model)
        core = model.get_base_model()
        if not has_plain_head(core):
            return super()._get_per_token_logps_and_entropies(
                _widen_scores(model), input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **others
            )
        state = model.get_model_status()
        if not torch.is_grad_enabled() and state.enabled is True and state.active_adapters == [POLICY]:
            # trl asks for the policy's own log-likelihoods before its step: those with which the lists were drawn.
            kept = attention_mask[:, -logits_to_keep:].bool()
            drawn = torch.tensor(self._drawn, device=input_ids.device)
            return drawn.new_zeros(kept.shape).masked_scatter(kept, drawn), None, None
        # Only what was sampled goes through the output layer, and the logits are never held; zeros elsewhere are masked by trl.
        weight, rows, size = core.get_output_embeddings().weight, [], batch_size or len(input_ids)
        for ids, mask in zip(input_ids.split(size), attention_mask.split(size), strict=True):
            hidden = core.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            kept = mask[:, -logits_to_keep:].bool()
            asked, targets = hidden[:, -logits_to_keep - 1 : -1][kept] / self.temperature, ids[:, -logits_to_keep:][kept]
            found = score_tokens(asked, weight, targets, entropy=compute_entropy)
            rows.append([part if part is None else part.new_zeros(kept.shape).masked_scatter(kept, part) for part in found])
        logs, entropies = zip(*rows, strict=True)
        return torch.cat(logs), torch.cat(entropies) if compute_entropy else None, None


class GroupedGRPO(_Groups, GRPOTrainer):
    """Group relative policy optimisation (Shao et al. 2024)."""

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, has_tool_images=False):
        return self._draw_groups(prompt_ids), None


class GroupedRLOO(_Groups, RLOOTrainer):
    """REINFORCE leave-one-out (Ahmadian et al. 2024)."""

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields):
        return self._draw_groups(prompt_ids)


class CreditedGRPO(GroupedGRPO):
    """GRPO in which a response is judged by what it adds to its list's reward, against the other lists' responses at its place.

    The reward of a list is a sum over its responses, and each is credited with its own increment alone. That is an
    approximation: it leaves out what a response does to those after it, and does not charge a list that ends early for the
    responses it lacks, so `length` in the log is to be looked at. It is made against noise: with few updates 64 lists of five
    responses give 320 judged responses in the place of 64 judged lists. A list ends at its k-th separator, where duplicates and
    copies of the cue count too; a response begins after the token `boundary` (`decode.find_boundary`).
    """

    reward: ListReward
    boundary: int

    def _is_over(self, tokens: list[int], stops: set[int]) -> bool:
        return super()._is_over(tokens, stops) or tokens.count(self.boundary) == self.reward.settings.k

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        ids, mask = output["completion_ids"], output["completion_mask"].bool()
        lists = [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]
        tokenizer, cues = self.processing_class, [example["cue"] for example in inputs]
        gains = [measure_gains(self.reward, tokenizer, self.boundary, *one)[0] for one in zip(cues, lists, strict=True)]
        advantages = torch.zeros(ids.shape)
        for place, (row, own) in enumerate(zip(lists, compare_places(gains, self.num_generations), strict=True)):
            # A boundary token belongs to the response that it ends.
            response = np.cumsum([0, *(token == self.boundary for token in row[:-1])])
            advantages[place, : len(row)] = torch.from_numpy(own).float()[response]
        output["advantages"] = advantages.to(ids.device)
        return output


def compare_places(gains: list[list[float]], size: int) -> np.ndarray:
    """Each response's gain less the mean gain of the group's other lists at its place, over the root mean square of all these.

    `gains`: one list a row, the `size` rows of a group together. The result has the shape (rows, longest list), 0 where a list has no
    response, where no other list of the group reaches the place, and where all gains are alike.

    >>> compare_places([[0.2, 0.1], [0.0]], 2)
    array([[ 1.,  0.],
           [-1.,  0.]])
    """
    table = np.full((len(gains) // size, size, max(map(len, gains))), np.nan)
    for row, own in enumerate(gains):
        table[row // size, row % size, : len(own)] = own
    others = (~np.isnan(table)).sum(axis=1, keepdims=True) - 1
    rest = np.nansum(table, axis=1, keepdims=True) - table
    apart = np.where(others > 0, table - rest / np.maximum(others, 1), np.nan)
    spread = np.sqrt(np.nanmean(apart**2)) if np.isfinite(apart).any() else 0.0
    return np.nan_to_num(apart / spread if spread > 1e-9 else np.zeros_like(apart)).reshape(len(gains), -1)


def choose_trainer(method: str, *, credit: str = "list") -> type[GRPOTrainer]:
    """The trainer of a method (`grpo`, `rloo`); several processes take trl's own, which gathers weights before it generates."""
    shared = PartialState().num_processes > 1
    if method == "rloo":
        return RLOOTrainer if shared else GroupedRLOO
    if credit == "list":
        return GRPOTrainer if shared else GroupedGRPO
    if shared:
        raise TrainingError("critic_free.credit: 'response' runs in one process; start one, or set 'list' in the profile")
    return CreditedGRPO
