"""One step of training as the benchmarks measure it: what `Trainer` does between two batches, in one process."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedTokenizerBase

from instruct_imagen.data.mixture import stage_source
from instruct_imagen.model import build_model
from instruct_imagen.presets import Preset, StageConfig
from instruct_imagen.training.average import MovingAverage
from instruct_imagen.training.loader import Collate, StageDataset
from instruct_imagen.training.objective import TrainingBatch, TrainingModule
from instruct_imagen.training.optimizers import make_optimizer
from instruct_imagen.training.winograd import use_winograd
from instruct_imagen.world import GlyphPack


class TrainingStep:
    """A network in training.

    Args:
        module: from a batch to the loss of every example.
        stage: optimizer, clipping and moving average.
        bfloat16: autocast, or all in float32.
    """

    def __init__(self, module: nn.Module, stage: StageConfig, bfloat16: bool):
        self.module = module.train()
        self.bfloat16 = bfloat16
        self.max_grad_norm = stage.max_grad_norm
        trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        self.trained = [p for _, p in trained]
        self.optimizer = make_optimizer(stage, trained)
        self.average = MovingAverage(trained, stage.ema_decay)

    @property
    def num_parameters(self) -> int:
        """Those that are trained."""
        return sum(p.numel() for p in self.trained)

    def differentiate(self, batch: TrainingBatch) -> None:
        """Forward and backward."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            loss = self.module(batch).mean()
        loss.backward()

    def update(self) -> None:
        """Clipping, optimizer and moving average."""
        torch.nn.utils.clip_grad_norm_(self.trained, self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()

    def count_flops(self, batch: TrainingBatch) -> tuple[int, int]:
        """Takes one step; floating-point operations of its matrix products and convolutions: network, optimizer."""
        with sdpa_kernel(SDPBackend.MATH):  # fused kernels for CPUs have no formula
            with FlopCounterMode(display=False) as network:
                self.differentiate(batch)
            with FlopCounterMode(display=False) as optimizer:
                self.update()
        return network.get_total_flops(), optimizer.get_total_flops()


class OwnStep(TrainingStep):
    """The last stage of a preset, from random weights."""

    def __init__(self, preset: Preset, tokenizer: PreTrainedTokenizerBase, bfloat16: bool):
        torch.manual_seed(0)
        parts, stage = build_model(preset.built, tokenizer), preset.stages[-1]
        module = TrainingModule.of(parts, stage)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(module, stage, bfloat16)

    def tune(self) -> None:
        """Has 3x3 convolutions computed as `Trainer` does; those of `count_flops` are plain ones."""
        if not self.bfloat16:
            use_winograd(self.module.unet)


def world_batch(
    preset: Preset, pack: GlyphPack, tokenizer: PreTrainedTokenizerBase, num_examples: int
) -> TrainingBatch:
    """The first examples of a preset's last stage."""
    stage, model = preset.stages[-1], preset.built
    dataset = StageDataset(stage_source(preset.data, stage.stage, pack, model.size_px, 0), model, stage, 0)
    return Collate(tokenizer, model)([dataset[index] for index in range(num_examples)])
