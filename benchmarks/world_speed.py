"""Measures how fast the glyph world makes examples, in one process and in several.

    python benchmarks/world_speed.py --size-px 64 --seconds 4 --json world_speed.json

An example is a target and, on average, one and a half references; both are sampled, rendered and styled.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import cv2
import numpy as np

from instruct_imagen.files import write_json
from instruct_imagen.world import GlyphPack, SceneSampler, caption, load_pack, render


def make_example(pack: GlyphPack, sampler: SceneSampler, rng: np.random.Generator, size_px: int) -> int:
    """Makes a captioned target and one or two references; returns the number of pictures."""
    scene = sampler.sample(rng)
    caption(scene, pack, rng)
    render(scene, pack, size_px)
    num_references = 1 + int(rng.random() < 0.5)
    for _ in range(num_references):
        render(sampler.repose(scene, rng), pack, size_px)
    return 1 + num_references


def work(
    pack: GlyphPack, seed: int, seconds: float, size_px: int, barrier: Barrier, results: multiprocessing.Queue
) -> None:
    """Makes examples for a while and reports (examples, pictures, seconds)."""
    cv2.setNumThreads(0)
    sampler, rng = SceneSampler(pack), np.random.default_rng(seed)
    for _ in range(10):
        make_example(pack, sampler, rng, size_px)
    barrier.wait()
    num_examples = num_pictures = 0
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        num_pictures += make_example(pack, sampler, rng, size_px)
        num_examples += 1
    results.put((num_examples, num_pictures, time.perf_counter() - start))


def measure(pack: GlyphPack, num_workers: int, seconds: float, size_px: int) -> dict[str, float]:
    """Rates with a number of processes at work at once."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(num_workers), context.Queue()
    workers = [
        context.Process(target=work, args=(pack, seed, seconds, size_px, barrier, results))
        for seed in range(num_workers)
    ]
    for worker in workers:
        worker.start()
    reports = [results.get(timeout=seconds + 60) for _ in workers]
    for worker in workers:
        worker.join()
    return {
        "num_workers": num_workers,
        "examples_per_sec": round(sum(examples / taken for examples, _, taken in reports), 1),
        "renders_per_sec": round(sum(pictures / taken for _, pictures, taken in reports), 1),
        "ms_per_render": round(1000 * sum(taken for *_, taken in reports) / sum(n for _, n, _ in reports), 3),
    }


def main() -> None:
    """Prints the rates and, if asked, writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="auto", help="auto, font, builtin, or a folder of cut-outs")
    parser.add_argument("--size-px", type=int, default=64, help="side of the pictures")
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each measurement")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of processes to measure")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    start = time.perf_counter()
    pack = load_pack(args.pack).prepare()
    load_sec = time.perf_counter() - start
    rates = [measure(pack, num_workers, args.seconds, args.size_px) for num_workers in args.workers]
    report = {"pack": pack.name, "num_glyphs": len(pack), "load_sec": round(load_sec, 2), "size_px": args.size_px}
    found = {**report, "rates": rates}
    print(json.dumps(found, indent=2))
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    main()
