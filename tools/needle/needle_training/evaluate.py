"""Teacher-forced accuracy on fresh examples: quick, and a good forecast of generation."""

import random

import torch

from .batches import ANSWER_WEIGHT, RowMaker
from .model import Llama
from .tasks import QUESTION_TASKS

TOKENS_A_PASS = 65536


@torch.inference_mode()
def evaluate(
    model: Llama, maker: RowMaker, lengths: list[int], device: str, examples: int = 64
) -> dict[str, tuple[float, float]]:
    """`task@length` to (share of answers right in every token, share of answer tokens right)."""
    maker.rng = maker.facts.rng = random.Random(12345)
    model.eval()
    scores: dict[str, tuple[float, float]] = {}
    for length in lengths:
        count = max(1, min(examples, 4 * TOKENS_A_PASS // length))
        rows_a_pass = max(1, TOKENS_A_PASS // length)
        for task in QUESTION_TASKS:
            rows = [maker.row(length, task) for _ in range(count)]
            exact = answered = right = total = 0
            for at in range(0, count, rows_a_pass):
                part = rows[at : at + rows_a_pass]
                ids = torch.tensor([ids for ids, _ in part], device=device)
                weights = torch.tensor([weights for _, weights in part], device=device)[:, 1:]
                targets = ids[:, 1:].contiguous()
                with torch.autocast(device, torch.bfloat16):
                    _, predicted = model(ids[:, :-1].contiguous(), targets, weights)
                is_answer = weights == ANSWER_WEIGHT
                hit = predicted == targets
                has_answer = is_answer.any(1)
                exact += int(((hit | ~is_answer).all(1) & has_answer).sum())
                answered += int(has_answer.sum())
                right += int((hit & is_answer).sum())
                total += int(is_answer.sum())
            scores[f"{task}@{length}"] = (exact / max(1, answered), right / max(1, total))
    return scores
