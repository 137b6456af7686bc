"""Measures how many examples a second the training loader hands over, against what a training step consumes.

    python benchmarks/loader_speed.py --preset nano --seconds 10 --json loader_speed.json

Sources: the world's mixture of stage 2, rendered as it is read, and the same examples from shards on disk. Loading is
measured alone, then training alone (batches repeated from memory), both through the code that training runs.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from training_steps import OwnStep

from instruct_imagen.data.example import ExampleSource
from instruct_imagen.data.mixture import stage_source
from instruct_imagen.data.shards import EpochSource, ShardSource, ShardWriter
from instruct_imagen.files import write_json
from instruct_imagen.model_folders import DEFAULT_MODEL, resolve_model
from instruct_imagen.precision import fast_bfloat16
from instruct_imagen.presets import Preset, get_preset
from instruct_imagen.text import load_tokenizer
from instruct_imagen.training.loader import Collate, PositionSampler, StageDataset, make_loader
from instruct_imagen.training.objective import TrainingBatch
from instruct_imagen.world import load_pack

WARM_BATCHES = 4


def batches(source: ExampleSource, preset: Preset, num_workers: int, collate: Collate) -> Iterator[TrainingBatch]:
    """Batches of stage 2, as training reads them."""
    stage = preset.stages[-1]
    dataset = StageDataset(source, preset.model, stage, seed=0)
    return iter(make_loader(dataset, collate, PositionSampler(0, 10**6, stage.batch_size), num_workers, False))


def loading(stream: Iterator[TrainingBatch], seconds: float) -> float:
    """Examples a second."""
    for _ in range(WARM_BATCHES):
        next(stream)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        count += len(next(stream).tasks)
    return count / (time.perf_counter() - start)


def training(preset: Preset, kept: Sequence[TrainingBatch], seconds: float, collate: Collate) -> float:
    """Examples a second of training steps on batches in memory."""
    step = OwnStep(preset, collate.tokenizer, bfloat16=fast_bfloat16("cpu"))
    step.tune()
    count, start = 0, time.perf_counter()
    for number, batch in enumerate(itertools.cycle(kept)):
        if number == 1:  # the first step prepares kernels
            count, start = 0, time.perf_counter()
        step.differentiate(batch)
        step.update()
        count += len(batch.tasks)
        if number and time.perf_counter() - start >= seconds:
            break
    return count / (time.perf_counter() - start)


def main() -> None:
    """Prints the rates and, if asked, writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--pack", default="auto")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each measurement")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="numbers of processes to measure")
    parser.add_argument("--shard-examples", type=int, default=1000, help="examples written to disk first")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    preset = replace(get_preset(args.preset), pack=args.pack)
    collate = Collate(load_tokenizer(resolve_model(DEFAULT_MODEL) / "tokenizer"), preset.model)
    world = stage_source(preset.data, "stage2", load_pack(args.pack), preset.model.size_px, 0)
    found: dict[str, object] = {"preset": args.preset}
    with tempfile.TemporaryDirectory() as name:
        with ShardWriter(Path(name)) as writer:
            for index in range(args.shard_examples):
                writer.write(world[index])
        shards = EpochSource(ShardSource(Path(name)), 0)
        for label, source in (("world", world), ("shards", shards)):
            for workers in args.workers:
                rate = loading(batches(source, preset, workers, collate), args.seconds)
                found[f"{label}, {workers} workers"] = round(rate, 1)
                print(f"{label}, {workers} workers: {rate:.1f} examples/s", flush=True)
    kept = list(itertools.islice(batches(world, preset, 0, collate), 8))
    rate = training(preset, kept, 2 * args.seconds, collate)
    found["training consumes"] = round(rate, 1)
    print(f"training consumes {rate:.1f} examples/s on {torch.get_num_threads()} threads")
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    main()
