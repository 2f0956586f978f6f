"""Writes a Hugging Face model directory (the tokenizer is there already) and a resumable checkpoint."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from .model import Llama
from .optimizers import Optimizers


def export_model(model: Llama, folder: Path) -> None:
    tensors = {
        f"model.{name}": tensor.detach().to(torch.bfloat16).contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    config = json.dumps(model.shape.hugging_face_config(), indent=1)
    (folder / "config.json").write_text(config, "utf-8")


def save_checkpoint(model: Llama, optimizers: Optimizers, steps: int, folder: Path) -> None:
    state = {"model": model.state_dict(), "optimizers": optimizers.state(), "steps": steps}
    torch.save(state, folder / "checkpoint.pt")


def load_checkpoint(model: Llama, optimizers: Optimizers, folder: Path, device: str) -> int:
    """Restores both and returns the number of steps taken."""
    state = torch.load(folder / "checkpoint.pt", map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizers.load(state["optimizers"])
    return state["steps"]
