r"""Measures training steps of this project's networks beside those of imagen-pytorch and diffusers, in one run.

    python benchmarks/training.py --json training.json      # ours and theirs, float32 and bfloat16
    python benchmarks/training.py --quick                   # a few seconds, to see it work
    python benchmarks/training.py --preset nano-sr --examples 4 --set stages.*.noise_levels=2 \
        --variant model.channels=[160] model.layers_per_block=[2] \
        --variant model.channels=[192] model.layers_per_block=[1]   # what networks of a preset cost

A step is forward, backward, clipping, optimizer and moving average. Ours also encodes its texts and its references;
theirs (`training_rivals.py`) read ready-made text states and no references. All take turns, round by round, and so
does a product of square matrices; rates are medians over the rounds, and so are ratios, which are taken within a round
so that other work on the machine favours nobody.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from training_rivals import HOW_TO_GET_IMAGEN_PYTORCH, load_imagen_pytorch, make_rivals
from training_steps import OwnStep, TrainingStep, world_batch
from transformers import PreTrainedTokenizerBase

from instruct_imagen.files import write_json
from instruct_imagen.model_folders import DEFAULT_MODEL, resolve_model
from instruct_imagen.precision import fast_bfloat16
from instruct_imagen.presets import Preset, get_preset
from instruct_imagen.text import load_tokenizer
from instruct_imagen.training.objective import TrainingBatch
from instruct_imagen.world import GlyphPack, load_pack

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
PRECISIONS = ("float32", "bfloat16")
MATRIX, QUICK_MATRIX = 2048, 256


@dataclass(frozen=True)
class Comparison:
    """Networks that take turns on the same examples.

    Attributes:
        preset, overrides: of all of ours.
        variants: further overrides of each of ours, by name; rivals are as large as the first.
        num_examples: in a step; 0 takes the preset's batch.
        with_rivals: measure other libraries too, at one noise level an example as they have.
    """

    preset: str
    overrides: tuple[str, ...]
    variants: dict[str, tuple[str, ...]]
    num_examples: int = 0
    with_rivals: bool = True

    def presets(self) -> dict[str, Preset]:
        """Ours, by name."""
        common = (*self.overrides, "stages.*.noise_levels=1") if self.with_rivals else self.overrides
        return {name: get_preset(self.preset, [*common, *own]) for name, own in self.variants.items()}


# Of about 13 M parameters. One network over pixels and over patches, then the shape of `nano`.
_TWO_LEVELS = ("model.channels=[128,256]", "model.layers_per_block=[1,1]")
COMPARISONS = (
    Comparison(
        "small",
        (),
        {
            "pixels": ("model.patch_size=1", *_TWO_LEVELS),
            "patches of 2": ("model.patch_size=2", *_TWO_LEVELS),
            "patches of 4": ("model.patch_size=4", *_TWO_LEVELS),
            "patches of 8": ("model.patch_size=8", "model.channels=[192]", "model.layers_per_block=[2]"),
        },
        num_examples=8,
    ),
    Comparison("nano", (), {"nano": ()}),
)
QUICK = (Comparison("debug", (), {"pixels": ("model.patch_size=1",), "debug": ()}, num_examples=2),)


class MatrixProduct:
    """The rate that the machine multiplies square matrices of a size at, in a precision."""

    def __init__(self, size: int, bfloat16: bool):
        self.size, self.bfloat16 = size, bfloat16
        dtype = torch.bfloat16 if bfloat16 else torch.float32
        self.factors = torch.randn(2, size, size, generator=torch.Generator().manual_seed(0)).to(dtype)
        self.times: list[float] = []

    def run(self, clock: Callable[[], float]) -> float:
        """Seconds of one product."""
        started = clock()
        torch.mm(*self.factors)
        return clock() - started

    @property
    def gflops_per_s(self) -> float:
        """Median over the rounds."""
        return 2 * self.size**3 / statistics.median(self.times) / 1e9


class Contender:
    """A network in one precision, and the times of its steps, one a round.

    Args:
        comparison: its place among the comparisons.
        name: in the table.
        step: the network in training.
        batch: what every step trains on.
    """

    def __init__(self, comparison: int, name: str, step: TrainingStep, batch: TrainingBatch):
        self.comparison, self.name, self.step, self.batch = comparison, name, step, batch
        self.flops = step.count_flops(batch)
        self.is_own = isinstance(step, OwnStep)
        if isinstance(step, OwnStep):
            step.tune()
        self.times: list[tuple[float, float]] = []

    def run(self, clock: Callable[[], float]) -> tuple[float, float]:
        """Seconds of forward and backward, and of the rest of a step."""
        started = clock()
        self.step.differentiate(self.batch)
        between = clock()
        self.step.update()
        return between - started, clock() - between

    def times_as_fast_as(self, other: Contender) -> float:
        """The median of the ratios within the rounds."""
        return statistics.median(sum(theirs) / sum(own) for own, theirs in zip(self.times, other.times, strict=True))

    def row(self, everyone: Sequence[Contender], gflops_per_s: float) -> dict[str, Any]:
        """Figures, beside the rate of matrix products and the rivals of the same comparison and precision."""
        seconds, num_examples = statistics.median(map(sum, self.times)), len(self.batch.tasks)
        network_gflop, update_gflop = (flops / 1e9 for flops in self.flops)
        beside = (self.comparison, self.step.bfloat16)
        rivals = [o for o in everyone if not o.is_own and (o.comparison, o.step.bfloat16) == beside]
        return {
            "name": self.name,
            "precision": PRECISIONS[self.step.bfloat16],
            "size_px": self.batch.targets.shape[-1],
            "trained_parameters_m": self.step.num_parameters / 1e6,
            "examples": num_examples,
            "noise_levels": self.batch.levels.shape[1],
            "references": len(self.batch.prompts.reference_rows) if self.is_own else 0,
            "network_s": statistics.median(network for network, _ in self.times),
            "update_s": statistics.median(update for _, update in self.times),
            "network_gflop": network_gflop,
            "update_gflop": update_gflop,
            "examples_per_s": num_examples / seconds,
            "share_of_matrix_product": (network_gflop + update_gflop) / seconds / gflops_per_s,
            "times_as_fast_as": {rival.name: self.times_as_fast_as(rival) for rival in rivals if rival is not self},
        }


def make_contenders(
    number: int, comparison: Comparison, pack: GlyphPack, tokenizer: PreTrainedTokenizerBase, precisions: Sequence[bool]
) -> Iterator[Contender]:
    """Everyone in a comparison, rivals first, in each precision (true: bfloat16)."""
    presets = comparison.presets()
    first = next(iter(presets.values()))
    batch = world_batch(first, pack, tokenizer, comparison.num_examples or first.stages[-1].batch_size)
    ours = [(name, OwnStep(preset, tokenizer, low)) for name, preset in presets.items() for low in precisions]
    if comparison.with_rivals:
        generator = torch.Generator().manual_seed(0)
        text_BLE = torch.randn(*batch.prompts.text_ids.shape, first.built.text.dim, generator=generator)
        stage = replace(first.stages[-1], optimizer="adamw")
        for name, build in make_rivals(first.built, ours[0][1].num_parameters, text_BLE).items():
            for low in precisions:
                yield Contender(number, name, TrainingStep(build(), stage, low), batch)
    for name, step in ours:
        yield Contender(number, name, step, batch)


def take_turns(everyone: Sequence[MatrixProduct | Contender], clock: Callable[[], float], seconds: float) -> None:
    """Rounds for so long, two at least; the times of the one before them, which prepares kernels, are not kept."""
    for timed in everyone:
        timed.run(clock)
    deadline, rounds = time.monotonic() + seconds, 0
    while rounds < 2 or time.monotonic() < deadline:
        for timed in everyone:
            timed.times.append(timed.run(clock))
        rounds += 1


def measure(
    comparisons: Sequence[Comparison],
    pack: GlyphPack,
    precisions: Sequence[bool],
    size: int,
    clock: str,
    seconds: float,
) -> dict[str, Any]:
    """Rates of all comparisons in one run; `size`: of the matrices that are multiplied."""
    tokenizer = load_tokenizer(resolve_model(DEFAULT_MODEL) / "tokenizer")
    products = {low: MatrixProduct(size, low) for low in precisions}
    contenders = [
        contender
        for number, comparison in enumerate(comparisons)
        for contender in make_contenders(number, comparison, pack, tokenizer, precisions)
    ]
    take_turns([*products.values(), *contenders], CLOCKS[clock], seconds)
    rates = {low: product.gflops_per_s for low, product in products.items()}
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "clock": clock,
        "rounds": len(contenders[0].times),
        "matrix_size": size,
        "matrix_product_gflops_per_s": {PRECISIONS[low]: rate for low, rate in rates.items()},
        "rows": [contender.row(contenders, rates[contender.step.bfloat16]) for contender in contenders],
    }


def table(found: dict[str, Any]) -> str:
    """What was measured, for people."""
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in found["matrix_product_gflops_per_s"].items())
    lines = [
        f"{found['rounds']} rounds, {found['threads']} threads, {found['clock']} clock; "
        f"matrix product in GFLOP/s: {rates}",
        f"{'':14} {'':8} {'px':>4} {'M':>6} {'examples':>8} {'refs':>5} {'network':>8} {'update':>7} {'ex/s':>7} "
        f"{'share':>6}   times as fast as",
    ]
    for row in found["rows"]:
        ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in row["times_as_fast_as"].items())
        lines.append(
            f"{row['name']:14} {row['precision']:8} {row['size_px']:4} {row['trained_parameters_m']:6.1f} "
            f"{row['examples']:8} {row['references']:5} {row['network_s']:7.2f}s {row['update_s']:6.2f}s "
            f"{row['examples_per_s']:7.1f} {row['share_of_matrix_product']:6.0%}   {ratios}"
        )
    return "\n".join(lines)


def main() -> None:
    """Prints the rates and, if asked, writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny networks, two rounds")
    parser.add_argument("--precision", choices=PRECISIONS, help="one alone")
    parser.add_argument("--seconds", type=float, default=300.0, help="for all rounds together")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: for one thread on a busy machine")
    parser.add_argument("--preset", help="compare variants of this preset, without other libraries")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all its variants")
    parser.add_argument("--variant", action="append", nargs="+", metavar="KEY=VALUE", help="overrides of one variant")
    parser.add_argument("--examples", type=int, default=0, help="in its steps (0: its batch)")
    parser.add_argument("--pack", default="auto", help="auto, font, builtin, or a folder of cut-outs")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    if args.clock == "processor" and args.threads > 1:
        parser.error("the processor's time adds up over threads; take one")
    if not args.preset and (args.set or args.variant or args.examples):
        parser.error("--set, --variant and --examples belong to --preset")
    if args.preset:
        variants = {" ".join(overrides) or args.preset: tuple(overrides) for overrides in args.variant or [[]]}
        comparisons = (Comparison(args.preset, tuple(args.set), variants, args.examples, with_rivals=False),)
    else:
        comparisons = QUICK if args.quick else COMPARISONS
        if load_imagen_pytorch() is None:
            print(HOW_TO_GET_IMAGEN_PYTORCH)
    precisions = [args.precision == "bfloat16"] if args.precision else [False, True]
    if not args.precision and not fast_bfloat16("cpu"):
        print("bfloat16 is not measured: this processor emulates it; --precision bfloat16 measures it nevertheless.")
        precisions = [False]
    torch.set_num_threads(args.threads)
    size, seconds = (QUICK_MATRIX, 0.0) if args.quick else (MATRIX, args.seconds)
    found = measure(comparisons, load_pack(args.pack), precisions, size, args.clock, seconds)
    print(table(found))
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    main()
