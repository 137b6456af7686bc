"""The memory estimates of docs/backbones.md against what real runs take: the growth of a process on a CPU, in float32.

python benchmarks/backbone_memory.py                       # nano and small, sampling and training
python benchmarks/backbone_memory.py small --json          # one model, for machines

Each figure is measured in a process of its own: the highest resident memory after the libraries are loaded, less what
the process held then. One picture, or one example in training, with two references.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys

import torch

from instruct_imagen.backbones.catalogue import Networks, preset_model
from instruct_imagen.backbones.memory import NUM_REFERENCES, estimate_sampling, estimate_training
from instruct_imagen.conditioning import ConditioningEncoder, PromptBatch
from instruct_imagen.model import build_scheduler
from instruct_imagen.presets import PRESETS, StageConfig
from instruct_imagen.training.objective import TrainingBatch, TrainingModule
from instruct_imagen.training.optimizers import make_optimizer

KINDS = ("sampling", "training")
# Freed memory goes back at once; otherwise the allocator's habits are measured.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}


def prompts(networks: Networks, rows: int) -> PromptBatch:
    """`rows` prompts of which the first has references."""
    size_px, length = networks.unet.size_px, networks.text_tokens

    def texts(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randint(3, 100, (count, length)), torch.ones(count, length, dtype=torch.bool)

    images = torch.randint(0, 256, (NUM_REFERENCES, 3, size_px, size_px), dtype=torch.uint8)
    first = torch.zeros(NUM_REFERENCES, dtype=torch.long)
    return PromptBatch(*texts(rows), *texts(NUM_REFERENCES), images, first, torch.arange(NUM_REFERENCES))


def sample(networks: Networks) -> None:
    """One guided step of one picture."""
    size_px = networks.unet.size_px
    with torch.no_grad():
        conditioning = ConditioningEncoder(networks.text_encoder, networks.unet).encode(prompts(networks, 2))
        noisy = torch.randn(2, 3, size_px, size_px)
        networks.unet(noisy, torch.full((2,), 500), conditioning.text_BLE, conditioning.cache)


def train(networks: Networks, name: str) -> None:
    """Two steps on one example, with AdamW and a moving average."""
    stage = StageConfig("stage2", 2)
    module = TrainingModule(networks.unet, networks.text_encoder, build_scheduler(PRESETS[name].built), stage)
    named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    optimizer = make_optimizer(stage, named)
    average = [p.detach().clone() for _, p in named]
    size_px = networks.unet.size_px
    for _ in range(2):
        batch = TrainingBatch(
            prompts(networks, 1),
            torch.randint(0, 256, (1, 3, size_px, size_px), dtype=torch.uint8),
            torch.randn(1, 1, 3, size_px, size_px),
            torch.rand(1, 1),
            ("subject",),
            torch.zeros(1, size_px, size_px, dtype=torch.bool),
        )
        module(batch).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for mean, (_, parameter) in zip(average, named, strict=True):
            mean.lerp_(parameter.detach(), 0.01)


def resident_bytes() -> int:
    """What this process holds in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def measure(name: str, kind: str) -> int:
    """Growth of this process; call it once, in a new one."""
    run("debug", kind)  # loads what the libraries load when they are first used
    before = resident_bytes()
    run(name, kind)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def run(name: str, kind: str) -> None:
    """Builds a preset's model and lets it work."""
    networks = preset_model(name).build()
    sample(networks) if kind == "sampling" else train(networks, name)


def estimate(name: str, kind: str) -> int:
    """The same from the meta device."""
    networks = preset_model(name).on_meta()
    return (estimate_sampling if kind == "sampling" else estimate_training)(networks).total


def main() -> None:
    """Prints one line for each model and kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["nano", "small"], metavar="PRESET")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--measure", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measure(options.models[0], options.measure))
        return
    for name in options.models:
        for kind in KINDS:
            command = [sys.executable, __file__, name, "--measure", kind]
            output = subprocess.run(
                command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=True
            ).stdout
            row = {"model": name, "kind": kind, "estimated": estimate(name, kind), "measured": int(output)}
            if options.json:
                print(json.dumps(row), flush=True)
            else:
                estimated, measured = (row[key] / 2**20 for key in ("estimated", "measured"))
                share = estimated / measured
                print(
                    f"{name:8} {kind:9} estimated {estimated:7.0f} MiB  measured {measured:7.0f} MiB  {share:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
