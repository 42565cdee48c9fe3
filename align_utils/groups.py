"""trl's critic-free trainers with lists of our own making: a prompt is read once for its group, a list stops at its line's end."""

from __future__ import annotations

import torch
from accelerate import PartialState
from trl import GRPOTrainer, RLOOTrainer

from align_utils.decoder import continue_rows, draw_tokens
from align_utils.failures import TrainingError
from align_utils.generation import find_stop_tokens
from align_utils.loss import has_plain_head, score_tokens

# trl copies the adapter of this name, and of no other, to `ref` before the first step: the frozen SFT model of the KL.
POLICY = "default"


class _Groups:
    """What both trainers share; trl's own methods of these names do the same for any model, task and number of processes."""

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

        lists = continue_rows(
            self.accelerator.unwrap_model(self.model), tokenizer.pad_token_id, asked, pick=pick, copies=size,
            ends=lambda _, tokens: tokens[-1] in stops, max_new_tokens=self.max_completion_length,
        )  # fmt: skip
        self._drawn = [log for row in drawn for log in row]
        return lists

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, **others
    ):
        model = self.accelerator.unwrap_model(model)
        core = model.get_base_model()
        if not has_plain_head(core):
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **others
            )
        state = model.get_model_status()
        if not torch.is_grad_enabled() and state.enabled is True and state.active_adapters == [POLICY]:
            # trl asks for the policy's own log-likelihoods before its step: those with which the lists were drawn.
            kept = attention_mask[:, -logits_to_keep:].bool()
            drawn = torch.tensor(self._drawn, device=input_ids.device)
            return drawn.new_zeros(kept.shape).masked_scatter(kept, drawn), None, None
        # Only what was sampled goes through the output layer, and the logits are never held; zeros elsewhere are masked by trl.
        weight, rows = core.get_output_embeddings().weight, []
        for ids, mask in zip(*(part.split(batch_size or len(part)) for part in (input_ids, attention_mask)), strict=True):
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


def choose_trainer(method: str) -> type[GRPOTrainer]:
    """The trainer of a method (`grpo`, `rloo`); several processes take trl's own, which gathers weights before it generates."""
    shared = PartialState().num_processes > 1
    return {"grpo": GRPOTrainer if shared else GroupedGRPO, "rloo": RLOOTrainer if shared else GroupedRLOO}[method]
