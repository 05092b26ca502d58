"""The study's networks and training loop in PyTorch, as one would write them there."""

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.benchmarks.turns import Contestants

LEARNING_RATE, WEIGHT_DECAY, BETAS, EPSILON, WARMUP_STEPS = 3e-3, 0.1, (0.9, 0.98), 1e-6, 10


class Transformer(nn.Module):
    """Pre-layer-norm encoder over the tokens [a, b]; the second is read out."""

    def __init__(self, config: Any, prime: int):
        super().__init__()
        self.embed = nn.Embedding(prime, config.d_model)
        self.position = nn.Embedding(2, config.d_model)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.d_model,
                config.n_heads,
                config.d_ff,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.n_layers)
        )
        self.norm = nn.LayerNorm(config.d_model)
        self.unembed = nn.Linear(config.d_model, prime)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Logits (B, p) of pairs (B,), (B,)."""
        x = self.embed(torch.stack([a, b], dim=1)) + self.position.weight
        for block in self.blocks:
            x = block(x)
        return self.unembed(self.norm(x[:, 1]))


class MLP(nn.Module):
    """One embedding for both tokens, concatenated, then hidden layers."""

    def __init__(self, config: Any, prime: int):
        super().__init__()
        self.embed = nn.Embedding(prime, config.d_model)
        widths = [2 * config.d_model] + [config.mlp_width] * config.mlp_depth
        self.hidden = nn.ModuleList(nn.Linear(n, m) for n, m in itertools.pairwise(widths))
        self.unembed = nn.Linear(config.mlp_width, prime)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Logits (B, p) of pairs (B,), (B,)."""
        x = torch.cat([self.embed(a), self.embed(b)], dim=1)
        for layer in self.hidden:
            x = nn.functional.gelu(layer(x))
        return self.unembed(x)


# Ours → PyTorch's, within a block.
_BLOCK = {
    "qkv.kernel": "self_attn.in_proj_weight",
    "qkv.bias": "self_attn.in_proj_bias",
    "out": "self_attn.out_proj",
    "up": "linear1",
    "down": "linear2",
}


def _their_name(path: str) -> str:
    for ours, theirs in _BLOCK.items():
        if path.startswith("blocks.") and f".{ours}" in path:
            path = path.replace(f".{ours}", f".{theirs}")
            break
    return (
        path.replace("kernel", "weight").replace("scale", "weight").replace(".embedding", ".weight")
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    flat: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        flat |= _flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return flat


def network(config: Any, params: dict[str, Any]) -> nn.Module:
    """The network with these parameters, every one of them copied across."""
    prime = params["embed"]["embedding"].shape[0]
    module = (Transformer if config.name == "transformer" else MLP)(config, prime)
    # PyTorch keeps a kernel as (outputs, inputs).
    state = {
        _their_name(path): torch.tensor(np.ascontiguousarray(v.T if "kernel" in path else v))
        for path, v in _flat(params).items()
    }
    module.load_state_dict(state)
    return module


class Trainer:
    """One network in training, on the batches given, over and over."""

    def __init__(
        self,
        config: Any,
        params: dict[str, Any],
        pairs: dict[str, np.ndarray],
        compiled: bool = False,
        fused: bool = False,
    ):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        module = network(config, params).to(self.device)
        self.optimiser = torch.optim.AdamW(
            module.parameters(),
            lr=LEARNING_RATE,
            betas=BETAS,
            eps=EPSILON,
            weight_decay=WEIGHT_DECAY,
            fused=fused,
        )
        self.forward: Callable[[Tensor, Tensor], Tensor] = module
        if compiled:
            self.forward = torch.compile(module)
        columns = (pairs["a"], pairs["b"], pairs["label"])
        self.batches = [
            tuple(torch.tensor(c[i], dtype=torch.int64, device=self.device) for c in columns)
            for i in range(len(pairs["a"]))
        ]
        self.step = 0

    def steps(self) -> list[Tensor]:
        """Trains on every batch once; losses on the device."""
        losses = []
        for a, b, label in self.batches:
            if self.step < WARMUP_STEPS:
                for group in self.optimiser.param_groups:
                    group["lr"] = LEARNING_RATE * (self.step + 1) / WARMUP_STEPS
            loss = nn.functional.cross_entropy(self.forward(a, b), label)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            losses.append(loss.detach())
            self.step += 1
        return losses

    def synchronize(self) -> None:
        """Waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self) -> float:
        """Wall time of one pass over the batches."""
        self.synchronize()
        begun = time.perf_counter()
        self.steps()
        self.synchronize()
        return time.perf_counter() - begun


VARIANTS: dict[str, dict[str, bool]] = {
    "PyTorch eager": {},
    "PyTorch eager, fused AdamW": {"fused": True},
    "PyTorch compiled, fused AdamW": {"compiled": True, "fused": True},
}


def make(
    config: Any, params: dict[str, Any], pairs: dict[str, np.ndarray], names: list[str]
) -> tuple[Contestants, dict[str, Any]]:
    """A contestant for each variant that works here, warm; first losses, and why others do not."""
    contestants, losses, missing = {}, {}, {}
    for name in names:
        try:
            trainer = Trainer(config, params, pairs, **VARIANTS[name])
            losses[name] = np.array([float(loss) for loss in trainer.steps()])
        except Exception as error:  # a compiler may be missing, or not know this device
            reason = str(error).strip().splitlines()
            missing[name] = f"{type(error).__name__}: {reason[0] if reason else ''}"
            continue
        contestants[name] = partial(Trainer.seconds, trainer)
    return contestants, {"losses": losses, "missing": missing}
