r"""What super-resolution keeps: text-only against context-reading, on held-out subjects and on masked editing.

    python -m instruct_imagen.evaluation.super_resolution --out out/super_resolution \
        --model text=train/nano-sr-text/pipeline --model context=train/nano-sr/pipeline --noise-level 0 0.1 0.2

Every true picture is reduced to the base model's size and enlarged again, so the second network alone is measured:
* `edit`: all that lies outside the mask is in the reference too and must not change: PSNR and perceptual distances;
* `subject`: a glyph that training never showed, beside another picture of it: which of sixteen it is, at full size.

With `--drawn` the base model draws the small pictures of `subject`: how well the glyph is then told, and how near the
pictures are to true ones by the style judge's features. That is what a noise level for sampling is chosen by.

Models are compared on the same pictures with the same noise; intervals of differences are to the first one.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from PIL import Image

from ..data.world_tasks import WorldExample, WorldTasks
from ..errors import UserError
from ..files import make_folder, write_atomically, write_json
from ..instruction import Instruction
from ..pictures import fit_square
from ..sheet import SheetRow, contact_sheet
from ..super_resolution import SuperResolutionOptions
from ..world import GlyphPack, SceneSampler, load_pack
from .bootstrap import difference_interval, mean_interval
from .cases import NUM_CANDIDATES
from .judges.identity import IdentityJudge
from .judges.style import style_features
from .pictures import judged
from .similarity import feature_distance, kernel_distance, psnr, structural_distance
from .suites import EvaluationError

SEED = 9_200_001  # no training source and no suite has it
TASKS = ("edit", "subject")
MIN_REGION_SHARE = 0.01  # of the picture
NUM_ROWS = 12  # of a contact sheet
BATCH = 8
ENLARGED = "bicubic"  # what no network at all scores


PIXEL_MEASURES = {"PSNR": psnr, "feature distance": feature_distance, "structural distance": structural_distance}


class Score(TypedDict):
    """One line of `super_resolution.json`: the mean of one measure of one model, with 95 % intervals."""

    model: str
    small: str
    task: str
    noise_level: float | None
    measure: str
    figure: float
    interval: list[float] | None
    difference: list[float] | None
    count: int


@dataclass(frozen=True)
class EnlargementCase:
    """One picture to enlarge.

    Attributes:
        world: instruction, references and true picture at full size.
        kept: bool [S, S], what must not change; None where the task does not say.
        candidates: glyphs among which the subject is to be told; empty for other tasks.
        seed: of the noise.
    """

    world: WorldExample
    kept: np.ndarray | None
    candidates: tuple[str, ...]
    seed: int

    @property
    def instruction(self) -> Instruction:
        """What the network reads."""
        return self.world.example.instruction

    @property
    def truth(self) -> np.ndarray:
        """The true picture, uint8 [S, S, 3]."""
        return self.world.picture.image

    @property
    def regions(self) -> dict[str, np.ndarray]:
        """Where pixels are compared with the truth, bool [S, S] by name."""
        named = "on the subject" if self.kept is None else "where kept"
        region = self.world.picture.mask if self.kept is None else self.kept
        return {"overall": np.ones_like(region), named: region}


def enlargement_cases(task: str, pack: GlyphPack, size_px: int, count: int) -> list[EnlargementCase]:
    """Cases of one of `TASKS` with held-out glyphs, plain pictures and trained wordings; the first ones stay the same.

    One with next to nothing to look at, such as an edit of the whole ground, is passed over.

    Raises:
        EvaluationError: there is no such task.
    """
    if task not in TASKS:
        raise EvaluationError(f"There is no task {task!r}; the tasks are {', '.join(TASKS)}.")
    builder = WorldTasks(pack, "held_out", size_px, wording="train", generic_share=1.0, name_styles=False)
    num_subjects = 1 if task == "subject" else None
    builder.sampler = SceneSampler(pack, "held_out", (), num_subjects=num_subjects, plain_share=1.0)
    drawn = (_case(task, builder, index) for index in itertools.count())
    seen = (case for case in drawn if all(region.mean() >= MIN_REGION_SHARE for region in case.regions.values()))
    return list(itertools.islice(seen, count))


def _case(task: str, builder: WorldTasks, index: int) -> EnlargementCase:
    rng = np.random.default_rng((SEED, zlib.crc32(task.encode()), index))
    world = builder.build(task, rng, f"{task}/{index}")
    seed = int(rng.integers(2**31))
    if task == "edit":
        kept = np.asarray(world.example.instruction.references[1].image)[..., 0] == 0
        return EnlargementCase(world, kept, (), seed)
    others = [glyph for glyph in builder.sampler.glyphs if glyph != world.scene.glyphs[0]]
    chosen = rng.permutation(len(others))[: NUM_CANDIDATES - 1]
    candidates = tuple(sorted([world.scene.glyphs[0], *(others[int(k)] for k in chosen)]))
    return EnlargementCase(world, None, candidates, seed)


class Measures:
    """What is measured on enlarged pictures; one judge for all models."""

    def __init__(self, pack: GlyphPack, size_px: int):
        self.identity = IdentityJudge(pack, size_px)

    def __call__(
        self, pictures: Sequence[np.ndarray], cases: Sequence[EnlargementCase], with_truth: bool
    ) -> dict[str, np.ndarray]:
        """Figures by measure, one a picture.

        Args:
            pictures: uint8 [S, S, 3] at full size.
            cases: their cases, all of one task.
            with_truth: compare pixels, too; not where the base model drew something of its own.
        """
        found: dict[str, list[float]] = {}
        for picture, case in zip(pictures, cases, strict=True):
            for name, region in case.regions.items() if with_truth else ():
                for kind, measure in PIXEL_MEASURES.items():
                    found.setdefault(f"{kind} {name}", []).append(measure(picture, case.truth, region))
            if case.candidates:
                right = self.identity.choose(picture, case.candidates) == case.world.scene.glyphs[0]
                found.setdefault("subject told", []).append(float(right))
        return {name: np.array(values) for name, values in found.items()}


def small_pictures(cases: Sequence[EnlargementCase], size_px: int) -> list[Image.Image]:
    """The true pictures, reduced as the base model sees them."""
    return [fit_square(case.world.example.target, size_px) for case in cases]


def enlarge(
    pipeline: Any, small: Sequence[Image.Image], cases: Sequence[EnlargementCase], options: SuperResolutionOptions
) -> list[np.ndarray]:
    """Enlarges with a pipeline, each picture by its case's noise."""
    pictures: list[np.ndarray] = []
    for start in range(0, len(cases), BATCH):
        rows = slice(start, start + BATCH)
        images = pipeline.super_resolve(
            list(small[rows]),
            [case.instruction for case in cases[rows]],
            options,
            generator=[torch.Generator().manual_seed(case.seed) for case in cases[rows]],
        ).images
        pictures.extend(np.asarray(image) for image in images)
    return pictures


def drawn_pictures(pipeline: Any, cases: Sequence[EnlargementCase]) -> list[Image.Image]:
    """What the base model draws for the cases."""
    images: list[Image.Image] = []
    for start in range(0, len(cases), BATCH):
        batch = cases[start : start + BATCH]
        generators = [torch.Generator().manual_seed(case.seed) for case in batch]
        instructions = [case.instruction for case in batch]
        images.extend(pipeline(instructions, generator=generators, stages="base").images)
    return images


class Comparison:
    """Scores of several models on the same cases.

    Args:
        cases: by task.
        measures: what is measured.
    """

    def __init__(self, cases: dict[str, list[EnlargementCase]], measures: Measures):
        self.cases, self.measures = cases, measures
        self.scores: list[Score] = []
        self._first: dict[tuple[str, str, str, float | None], np.ndarray] = {}

    def add(
        self, model: str, small: str, task: str, level: float | None, pictures: Sequence[np.ndarray], of_model: bool
    ) -> None:
        """Measures one model's pictures of one task.

        Args:
            model: its name.
            small: "true" or "drawn", where the small pictures came from.
            task: one of `TASKS`.
            level: noise level in sampling.
            pictures: at full size.
            of_model: whether later models are compared with it.
        """
        cases = self.cases[task]
        for measure, values in self.measures(pictures, cases, with_truth=small == "true").items():
            key = (small, task, measure, level)
            first = self._first.get(key) if of_model else None
            difference = None if first is None else list(difference_interval(values, first))
            if of_model:
                self._first.setdefault(key, values)
            interval = list(mean_interval(values))
            self._append(model, small, task, level, measure, float(values.mean()), interval, difference)
        if small == "drawn":
            truth = np.stack([style_features(judged(case.truth)) for case in cases])
            features = np.stack([style_features(judged(picture)) for picture in pictures])
            distance = kernel_distance(features, truth)
            self._append(model, small, task, level, "distance of sets", distance, None, None)

    def _append(self, model, small, task, level, measure, figure, interval, difference) -> None:
        self.scores.append(
            Score(
                model=model,
                small=small,
                task=task,
                noise_level=level,
                measure=measure,
                figure=figure,
                interval=interval,
                difference=difference,
                count=len(self.cases[task]),
            )
        )


def compare(
    models: dict[str, Path],
    out: Path,
    pack: GlyphPack,
    levels: Sequence[float],
    count: int,
    steps: int,
    drawn: bool = False,
) -> list[Score]:
    """Runs all models and writes `super_resolution.json` and a sheet for each task.

    Args:
        models: folders or names of cascades, by the name they get in the table; all of one size.
        out: folder for the results.
        pack: the glyphs.
        levels: noise levels in sampling.
        count: pictures a task, at least 2.
        steps: denoising steps.
        drawn: also enlarge what the first model's base draws.

    Raises:
        EvaluationError: the models differ in size, or lack a network that is needed.
        ModelError: one is missing or damaged.
    """
    pipelines = {name: _load(path) for name, path in models.items()}
    sizes = {(pipeline.size_px, pipeline.output_size_px) for pipeline in pipelines.values()}
    if len(sizes) != 1:
        raise EvaluationError("The models do not enlarge from and to the same sizes.")
    ((low_px, size_px),) = sizes
    cases = {task: enlargement_cases(task, pack, size_px, count) for task in TASKS}
    comparison = Comparison(cases, Measures(pack, size_px))
    sheets: dict[str, list[tuple[str, list[np.ndarray]]]] = {task: [] for task in TASKS}
    for small, task, images in _sources(cases, low_px, next(iter(pipelines.values())) if drawn else None):
        enlarged = [np.asarray(image.resize((size_px, size_px), Image.Resampling.BICUBIC)) for image in images]
        comparison.add(ENLARGED, small, task, None, enlarged, of_model=False)
        if small == "true":
            comparison.add("truth", small, task, None, [case.truth for case in cases[task]], of_model=False)
            sheets[task].append((ENLARGED, enlarged))
        for name, pipeline in pipelines.items():
            for level in levels:
                options = SuperResolutionOptions(steps, noise_level=level)
                pictures = enlarge(pipeline, images, cases[task], options)
                comparison.add(name, small, task, level, pictures, of_model=True)
                if small == "true" and level == levels[0]:
                    sheets[task].append((name, pictures))
    make_folder(out)
    for task, columns in sheets.items():
        write_atomically(out / f"{task}.png", _sheet(cases[task], columns).save)
    write_json(out / "super_resolution.json", {"size_px": size_px, "steps": steps, "scores": comparison.scores})
    return comparison.scores


def _load(path: Path) -> Any:
    from ..model_folders import hide_loading_bars
    from ..pipeline import InstructImagenPipeline

    hide_loading_bars()
    pipeline = InstructImagenPipeline.from_pretrained(path)
    pipeline.set_progress_bar_config(disable=True)
    if pipeline.super_resolution is None:
        raise EvaluationError(f"{path} has no super-resolution network.")
    return pipeline


def _sources(
    cases: dict[str, list[EnlargementCase]], low_px: int, base: Any
) -> Iterator[tuple[str, str, list[Image.Image]]]:
    """Where small pictures come from, the task, and the pictures."""
    for task, of_task in cases.items():
        yield "true", task, small_pictures(of_task, low_px)
    if base is not None:
        yield "drawn", "subject", drawn_pictures(base, cases["subject"])


def _sheet(cases: Sequence[EnlargementCase], columns: Sequence[tuple[str, Sequence[np.ndarray]]]) -> Image.Image:
    title = ", ".join([*(name for name, _ in columns), "truth"])
    rows = []
    for index, case in enumerate(cases[:NUM_ROWS]):
        pictures = [*(pictures[index] for _, pictures in columns), case.truth]
        rows.append(SheetRow.of(title, case.instruction, [Image.fromarray(picture) for picture in pictures]))
    return contact_sheet(rows)


def print_table(scores: Sequence[Score]) -> None:
    """One line a score."""
    print(
        f"{'small':6} {'task':8} {'measure':31} {'model':12} {'level':>5}  {'figure':>8}  interval, difference to first"
    )
    for score in sorted(scores, key=lambda s: (s["small"] != "true", s["task"], s["measure"])):
        level = "-" if score["noise_level"] is None else f"{score['noise_level']:.2f}"
        intervals = [score["interval"], score["difference"]]
        shown = ", ".join(f"{pair[0]:.3f} .. {pair[1]:.3f}" for pair in intervals if pair is not None)
        names = f"{score['small']:6} {score['task']:8} {score['measure']:35} {score['model']:12}"
        print(f"{names} {level:>5}  {score['figure']:8.3f}  {shown}")


def _model(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    return (name, Path(path)) if separator else (Path(text).parent.name or text, Path(text))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    from ..arguments import positive, share

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", type=_model, required=True, metavar="[NAME=]PATH")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--noise-level", type=share, nargs="+", default=[0.0, 0.1, 0.2], metavar="L")
    parser.add_argument("--count", type=positive, default=64, metavar="N", help="pictures a task (%(default)s)")
    parser.add_argument("--steps", type=positive, default=12, metavar="N", help="denoising steps (%(default)s)")
    parser.add_argument("--pack", default="auto", help="glyph pack (%(default)s)")
    parser.add_argument("--drawn", action="store_true", help="also enlarge what the first model's base draws")
    options = parser.parse_args(arguments)
    levels = list(dict.fromkeys(options.noise_level))
    models = dict(options.model)
    try:
        if len(models) < len(options.model):
            raise EvaluationError("Two models have the same name; write NAME=PATH.")
        pack = load_pack(options.pack).prepare()
        print_table(compare(models, options.out, pack, levels, options.count, options.steps, options.drawn))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
