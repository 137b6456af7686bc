"""Chooses a model's guidance on instructions that no reported score uses: a figure for each pair of scales and task.

    python benchmarks/guidance.py --model instruct-imagen-nano --text 3 4.5 --image 3 6 9

Tasks are the suites', drawn from another seed. `--start` and `--stop` guide in a part of the steps only. Text alone is
drawn once for each scale of the text, since it has no references. `--reversed` numbers the references of each
instruction the other way round, which should change nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from instruct_imagen import InstructImagenPipeline
from instruct_imagen.arguments import positive
from instruct_imagen.evaluation.runner import Drawn, Evaluator, run_suites
from instruct_imagen.evaluation.suites import Suite, get_suites
from instruct_imagen.guidance import ConstantGuidance
from instruct_imagen.instruction import Instruction, renumber_markers
from instruct_imagen.schedulers import fast_scheduler
from instruct_imagen.world import load_pack

SEED = 9_100_001  # not the suite's own
SAMPLERS = ("model", "ode", "sde", "paper")
WITHOUT_REFERENCES = ("text", "quick/text")
QUICK = ("quick/text", "quick/subject", "quick/style", "quick/mask", "quick/edge")


@dataclass(frozen=True)
class GuidedGenerator:
    """An `ImageGenerator` with one schedule of guidance."""

    pipeline: InstructImagenPipeline
    guidance: ConstantGuidance
    steps: int | None
    is_reversed: bool = False

    def __call__(
        self, instructions: Sequence[Instruction], seeds: Sequence[int], drop_context: bool = False
    ) -> list[np.ndarray]:
        """See `ImageGenerator`."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        asked = [renumbered(instruction) if self.is_reversed else instruction for instruction in instructions]
        images = self.pipeline(
            asked, self.steps, guidance=self.guidance, generator=generators, drop_context=drop_context
        ).images
        return [np.asarray(image) for image in images]


def renumbered(instruction: Instruction) -> Instruction:
    """The same instruction with its markers numbered the other way round."""
    last = max((reference.marker for reference in instruction.references), default=0)
    numbers = {marker: last + 1 - marker for marker in range(1, last + 1)}
    references = tuple(replace(item, marker=numbers[item.marker]) for item in instruction.references)
    return Instruction(renumber_markers(instruction.text, numbers), references)


def compared_suites(tasks: Sequence[str], count: int) -> tuple[Suite, ...]:
    """The suites with these tasks alone, and with other instructions."""
    return tuple(replace(suite, num_per_task=count, seed=SEED) for suite in get_suites(*tasks))


def main() -> None:
    """Prints a line for each pair of scales."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="instruct-imagen-nano")
    parser.add_argument("--tasks", nargs="+", default=QUICK, help="named as for `evaluate --suite`")
    parser.add_argument("--text", type=float, nargs="+", default=[3.0, 4.5], help="scales of the text")
    parser.add_argument("--image", type=float, nargs="+", default=[3.0, 6.0, 9.0], help="scales of the references")
    parser.add_argument("--start", type=float, default=0.0, help="share of the steps before guidance begins")
    parser.add_argument("--stop", type=float, default=1.0, help="share of the steps after which it ends")
    parser.add_argument("--reversed", action="store_true", help="number references the other way round")
    parser.add_argument("--steps", type=positive, help="denoising steps (the model's own)")
    parser.add_argument("--sampler", choices=SAMPLERS, default="model", help="(%(default)s: the model's own)")
    parser.add_argument("--count", type=positive, default=96, help="instructions of each task")
    options = parser.parse_args()

    pack = load_pack().prepare()
    evaluator = Evaluator(pack)
    pipeline = InstructImagenPipeline.from_pretrained(options.model)
    if options.sampler == "paper":
        pipeline.use_paper_sampler()
    elif options.sampler != "model":
        algorithm = {"ode": "dpmsolver++", "sde": "sde-dpmsolver++"}[options.sampler]
        pipeline.scheduler = fast_scheduler(pipeline.scheduler.config, algorithm=algorithm)
    pipeline.set_progress_bar_config(disable=True)
    names = {task: max(8, len(task)) for task in options.tasks}
    print(f"{'text':>5} {'image':>5} " + " ".join(f"{task:>{width}}" for task, width in names.items()), flush=True)
    for text, image in product(options.text, options.image):
        tasks = [t for t in options.tasks if t not in WITHOUT_REFERENCES or image == options.image[0]]
        guidance = ConstantGuidance(text, image, options.start, options.stop)
        source = Drawn(GuidedGenerator(pipeline, guidance, options.steps, options.reversed))
        with tempfile.TemporaryDirectory() as folder:
            suites = compared_suites(tasks, options.count)
            found = run_suites(suites, source, pack, Path(folder), progress=False, evaluator=evaluator)
        scores = {name: score for suite in found.values() for name, score in suite.items()}
        cells = {task: scores[task.split("/")[-1]]["figure"] for task in tasks}
        row = (f"{cells[t]:{w}.3f}" if t in cells else f"{'same':>{w}}" for t, w in names.items())
        print(f"{text:5g} {image:5g} " + " ".join(row), flush=True)


if __name__ == "__main__":
    main()
