"""The training loop: as many steps as fit into a time budget, at lengths that grow in phases."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .batches import ANSWER_WEIGHT, BatchSource
from .export import load_checkpoint, save_checkpoint
from .model import Llama, Shape
from .optimizers import Optimizers

WARM_UP_STEPS = 200


@dataclass(frozen=True)
class Phase:
    length: int
    share: float
    """Part of the time, relative to the other phases' shares."""


@dataclass(frozen=True)
class Settings:
    minutes: float
    phases: list[Phase]
    rate: float
    decay: bool
    resume: bool
    device: str
    compile_kernels: bool


def phase_at(phases: list[Phase], elapsed: float) -> Phase:
    """The phase for the fraction `elapsed` (0 to 1) of the time."""
    total = sum(phase.share for phase in phases)
    end = 0.0
    for phase in phases:
        end += phase.share / total
        if elapsed < end:
            return phase
    return phases[-1]


def schedule(steps_taken: int, elapsed: float, decay: bool) -> float:
    """Warm-up by steps; with `decay`, constant for 35 % of the time and then linear to 2 %."""
    warm_up = min(1.0, (steps_taken + 1) / WARM_UP_STEPS)
    if not decay:
        return warm_up
    return warm_up * max(0.02, 1 - max(0.0, (elapsed - 0.35) / 0.65))


def train(shape: Shape, settings: Settings, source: BatchSource, folder: Path) -> Llama:
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    device = settings.device
    model = Llama(shape).to(device)
    optimizers = Optimizers(
        model, rate=settings.rate, compile_kernels=settings.compile_kernels
    )
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    first_step = load_checkpoint(model, optimizers, folder, device) if settings.resume else 0
    forward = torch.compile(model, dynamic=False) if settings.compile_kernels else model

    step, tokens, started = first_step, 0, time.time()
    while (elapsed := (time.time() - started) / (settings.minutes * 60)) < 1:
        wanted = phase_at(settings.phases, elapsed).length
        if source.length != wanted:
            source.length = wanted
            print(f"step {step}: rows of {wanted} tokens from here", flush=True)
        length, ids, weights = source.next()
        ids = torch.from_numpy(ids.astype(np.int64)).to(device, non_blocking=True)
        weights = torch.from_numpy(weights.astype(np.float32)).to(device, non_blocking=True)
        weights = weights[:, 1:].contiguous()
        targets = ids[:, 1:].contiguous()
        with torch.autocast(device, torch.bfloat16):
            loss, predicted = forward(ids[:, :-1].contiguous(), targets, weights)
        loss.backward()
        optimizers.step(schedule(step - first_step, elapsed, settings.decay))
        model.zero_grad(set_to_none=True)
        step += 1
        tokens += ids.numel()
        if step % 100 == 0 or step == first_step + 1:
            is_answer = weights == ANSWER_WEIGHT
            accuracy = ((predicted == targets) & is_answer).sum() / is_answer.sum()
            seconds = time.time() - started
            print(
                f"step {step}  length {length}  loss {loss.item():.3f}  "
                f"answer tokens right {accuracy.item():.3f}  {tokens / seconds / 1e6:.2f} M tokens/s  "
                f"batches waiting {source.waiting()}  {seconds:.0f} s",
                flush=True,
            )
    save_checkpoint(model, optimizers, step, folder)
    print(f"{step} steps, {tokens / 1e6:.0f} M tokens", flush=True)
    return model
