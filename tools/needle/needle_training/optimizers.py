"""Muon for the weight matrices, AdamW for the embedding and the norms."""

import torch
from torch import Tensor, nn

MATRIX_RATE, MOMENTUM, MATRIX_DECAY = 0.02, 0.95, 0.01
OTHER_RATE = 3e-3


def orthogonalise(gradients: Tensor) -> Tensor:
    """Newton-Schulz iteration towards the nearest orthogonal matrix. gradients [count, rows, columns]."""
    x = gradients.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.transpose(1, 2) if tall else x


class Optimizers:
    """Both optimisers behind one `step`. Matrices of one shape are updated together."""

    def __init__(self, model: nn.Module, *, rate: float, compile_kernels: bool):
        named = list(model.named_parameters())
        is_matrix = lambda name, p: p.dim() == 2 and "embed" not in name
        self._groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for name, parameter in named:
            if is_matrix(name, parameter):
                self._groups.setdefault(tuple(parameter.shape), []).append(parameter)
        self._momentum = {
            shape: torch.zeros(len(group), *shape, device=group[0].device)
            for shape, group in self._groups.items()
        }
        others = [p for name, p in named if not is_matrix(name, p)]
        self._adam = torch.optim.AdamW(
            others, lr=OTHER_RATE * rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )
        self._rate = rate
        self._orthogonalise = (
            torch.compile(orthogonalise, dynamic=False) if compile_kernels else orthogonalise
        )

    @torch.no_grad()
    def _step_matrices(self, rate: float) -> None:
        for shape, group in self._groups.items():
            gradient = torch.stack([p.grad for p in group])
            momentum = self._momentum[shape]
            momentum.lerp_(gradient, 1 - MOMENTUM)
            nesterov = gradient.lerp(momentum, MOMENTUM)
            # Updates of tall matrices are scaled so that every matrix moves alike per output.
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            update = self._orthogonalise(nesterov).float() * scale
            torch._foreach_mul_(group, 1 - rate * MATRIX_DECAY)
            torch._foreach_add_(group, list((-rate * update).unbind(0)))

    def step(self, schedule: float) -> None:
        """One update with all learning rates multiplied by `schedule` (0 to 1)."""
        for settings in self._adam.param_groups:
            settings["lr"] = OTHER_RATE * self._rate * schedule
        self._step_matrices(MATRIX_RATE * self._rate * schedule)
        self._adam.step()

    def state(self) -> dict:
        return {"adam": self._adam.state_dict(), "momentum": self._momentum}

    def load(self, state: dict) -> None:
        self._adam.load_state_dict(state["adam"])
        for shape, momentum in state["momentum"].items():
            self._momentum[shape].copy_(momentum)
