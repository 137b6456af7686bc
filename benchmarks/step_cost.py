r"""Measures the processor time of one training step for variants of a preset, to choose a network by what it costs.

    python benchmarks/step_cost.py --preset nano-sr --examples 4 --set stages.*.noise_levels=2 \
        --variant model.channels=[160] model.layers_per_block=[2] \
        --variant model.channels=[192] model.layers_per_block=[1]

The variants take turns on the same batch, on one thread, and the median of each is printed: forward and backward, and
the optimizer. Processor time, unlike the clock, can be read on a machine that is busy with something else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from instruct_imagen.data.mixture import stage_source
from instruct_imagen.model import build_model
from instruct_imagen.pipeline import DEFAULT_MODEL, resolve_model
from instruct_imagen.precision import autocast
from instruct_imagen.presets import Preset, get_preset
from instruct_imagen.text import load_tokenizer
from instruct_imagen.training.loader import Collate, StageDataset
from instruct_imagen.training.objective import TrainingBatch, TrainingModule
from instruct_imagen.training.optimizers import make_optimizer
from instruct_imagen.world import load_pack


@dataclass
class Variant:
    """A network with its optimizer and the times that its steps took."""

    name: str
    module: TrainingModule
    optimizer: torch.optim.Optimizer
    network_s: list[float] = field(default_factory=list)
    optimizer_s: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, preset: Preset, collate: Collate) -> Variant:
        """Random weights of a preset's last stage."""
        torch.manual_seed(0)
        parts, stage = build_model(preset.model, collate.tokenizer), preset.stages[-1]
        module = TrainingModule(parts.unet, parts.text_encoder, parts.scheduler, stage)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        return cls(name, module, make_optimizer(stage, trained))

    def step(self, batch: TrainingBatch) -> None:
        """One step, timed."""
        started = time.process_time()
        with autocast("cpu"):
            loss = self.module(batch).mean()
        loss.backward()
        between = time.process_time()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.network_s.append(between - started)
        self.optimizer_s.append(time.process_time() - between)


def main() -> None:
    """Prints the times and, if asked, writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="nano-sr")
    parser.add_argument("--pack", default="auto")
    parser.add_argument("--examples", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=120.0, help="for all variants together")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all variants")
    parser.add_argument("--variant", action="append", nargs="*", metavar="KEY=VALUE", help="overrides of one variant")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    base = get_preset(args.preset, args.set)
    collate = Collate(load_tokenizer(resolve_model(DEFAULT_MODEL) / "tokenizer"), base.model)
    stage = base.stages[-1]
    source = stage_source(base.data, stage.stage, load_pack(args.pack), base.model.size_px, 0)
    dataset = StageDataset(source, base.model, stage, 0)
    batch = collate([dataset[index] for index in range(args.examples)])
    print(f"{args.examples} examples, {batch.levels.numel()} noisy, {len(batch.prompts.reference_images)} references")
    variants = [
        Variant.of(" ".join(overrides) or args.preset, get_preset(args.preset, [*args.set, *overrides]), collate)
        for overrides in args.variant or [[]]
    ]
    deadline = time.monotonic() + args.seconds
    while min(len(variant.network_s) for variant in variants) < 2 or time.monotonic() < deadline:
        for variant in variants:
            variant.step(batch)
    found = {}
    for variant in variants:  # the first step prepares kernels
        times = [statistics.median(values[1:]) for values in (variant.network_s, variant.optimizer_s)]
        millions = sum(p.numel() for p in variant.module.unet.parameters()) / 1e6
        found[variant.name] = {"network_s": times[0], "optimizer_s": times[1], "unet_parameters_m": millions}
        print(
            f"{variant.name}: {times[0]:.2f} + {times[1]:.2f} s, {millions:.1f} M, {len(variant.network_s) - 1} steps"
        )
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
