"""How often judges are right on true pictures of held-out glyphs, at 64 pixels and at 32, and the time they take.

    python benchmarks/judge_accuracy.py --count 60

Subjects and people are chosen among 16, hats among 8; templates and synthesis look at the same pictures. The floor is
the same judge on the picture of the next scene. `python -m instruct_imagen.evaluation.calibrate` measures all judges,
of controls, relations and quality too, which give a degree and choose nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch

from instruct_imagen.arguments import positive
from instruct_imagen.evaluation.conditions import PictureSet, pack_judges
from instruct_imagen.evaluation.judges.extractor import count_fidelity
from instruct_imagen.evaluation.pictures import judged
from instruct_imagen.world import (
    GROUND_KINDS,
    STYLE_NAMES,
    GlyphPack,
    Portraits,
    PortraitSampler,
    Scene,
    SceneSampler,
    load_pack,
    parse_portrait,
    render,
    sample_style,
)
from instruct_imagen.world.faces import HATS

SEED = 8_700_000
NUM_CANDIDATES = 16
RELATIONS = ("next to", "left of", "right of", "above", "below")
SIZES_PX = (64, 32)

Row = tuple[str, str, int, float, float, float]  # judge, pictures, size, right, right on the next one, ms a choice
Hits = Callable[[PictureSet], list[bool]]


def draw_scenes(pack: GlyphPack, count: int, num_subjects: int, styled: bool, rng: np.random.Generator) -> list[Scene]:
    """Scenes of held-out glyphs, in every style in turn or in none."""
    sampler = SceneSampler(pack, "held_out")
    names = [name for name in STYLE_NAMES if name != STYLE_NAMES[0]]
    scenes = []
    for k in range(count):
        style = sample_style(rng, names[k % len(names)] if styled else STYLE_NAMES[0])
        relation = RELATIONS[k % len(RELATIONS)] if num_subjects == 2 else None
        scenes.append(sampler.sample(rng, num_subjects=num_subjects, style=style, relation=relation))
    return scenes


def candidates_for(scene: Scene, subject: int, glyphs: Sequence[str], rng: np.random.Generator) -> list[str]:
    """The right glyph and fifteen others that are not in the scene."""
    rest = [glyph for glyph in glyphs if glyph not in scene.glyphs]
    drawn = rng.choice(len(rest), min(NUM_CANDIDATES - 1, len(rest)), replace=False)
    return sorted([scene.glyphs[subject], *(rest[int(k)] for k in drawn)])


def rows_of(pack: GlyphPack, name: str, pictures: Sequence[np.ndarray], judges: dict[str, Hits]) -> Iterator[Row]:
    """One row for each judge and size.

    Args:
        pack: the glyphs.
        name: of the pictures.
        pictures: true ones, uint8 [64, 64, 3] each.
        judges: by name, which of a set's choices are right.
    """
    for size_px in SIZES_PX:
        shown = [judged(picture, size_px) for picture in pictures]
        true, wrong = PictureSet(shown, pack), PictureSet([*shown[1:], shown[0]], pack)
        _ = true.extracted  # what several judges share is not timed
        for judge, hits in judges.items():
            start = time.process_time()
            right = hits(true)
            milliseconds = 1000 * (time.process_time() - start) / len(right)
            yield judge, name, size_px, float(np.mean(right)), float(np.mean(hits(wrong))), milliseconds


def subject_rows(pack: GlyphPack, count: int) -> Iterator[Row]:
    """Templates and synthesis on one and two subjects, plain and styled."""
    glyphs = SceneSampler(pack, "held_out").glyphs
    for num_subjects, styled in ((1, False), (1, True), (2, False), (2, True)):
        rng = np.random.default_rng((SEED, num_subjects, styled))
        scenes = draw_scenes(pack, count // num_subjects, num_subjects, styled, rng)
        asked = [(k, s, candidates_for(x, s, glyphs, rng)) for k, x in enumerate(scenes) for s in range(num_subjects)]
        judges = pack_judges(pack)
        templates = judges.single if num_subjects == 1 else judges.several

        def by_templates(seen: PictureSet, asked=asked, scenes=scenes, templates=templates) -> list[bool]:
            return [templates.choose(seen.pictures[k], c) == scenes[k].glyphs[s] for k, s, c in asked]

        def by_synthesis(seen: PictureSet, asked=asked, scenes=scenes) -> list[bool]:
            best = [c[int(seen.sight(k, scenes[k], s, c).shares.argmax())] for k, s, c in asked]
            return [found == scenes[k].glyphs[s] for found, (k, s, _) in zip(best, asked, strict=True)]

        name = f"{num_subjects} {'styled' if styled else 'plain'}"
        pictures = [render(scene, pack, 64).image for scene in scenes]
        yield from rows_of(pack, name, pictures, {"templates": by_templates, "synthesis": by_synthesis})


def portrait_rows(pack: GlyphPack, count: int) -> Iterator[Row]:
    """People among sixteen in one mood and outfit, and hats."""
    sampler, portraits, rng = PortraitSampler("held_out"), Portraits(), np.random.default_rng((SEED, 9))
    scenes = [sampler.scene(rng) for _ in range(count)]
    asked = [parse_portrait(scene.glyphs[0]) for scene in scenes]
    others = [[sampler.identity(rng) for _ in range(NUM_CANDIDATES - 1)] for _ in scenes]
    faces = pack_judges(pack).faces

    def people(seen: PictureSet) -> list[bool]:
        hits = []
        for picture, one, rest in zip(seen.pictures, asked, others, strict=True):
            keys = sorted([one.key, *(replace(one, identity=identity).key for identity in rest)])
            hits.append(faces.choose(picture, keys) == one.key)
        return hits

    def hats(seen: PictureSet) -> list[bool]:
        pairs = [(p, one) for p, one in zip(seen.pictures, asked, strict=True) if one.hat != "none"]
        return [faces.choose(p, [replace(one, hat=hat).key for hat in HATS]) == one.key for p, one in pairs]

    pictures = [render(scene, portraits, 64).image for scene in scenes]
    yield from rows_of(pack, "portraits", pictures, {"people": people, "hats": hats})


def other_rows(pack: GlyphPack, count: int) -> Iterator[Row]:
    """Styles, grounds and the number of subjects."""
    rng = np.random.default_rng((SEED, 10))
    styled = draw_scenes(pack, 2 * count, 1, True, rng)
    singles, pairs = (draw_scenes(pack, count, num, False, rng) for num in (1, 2))
    plain = [scene for two in zip(singles, pairs, strict=True) for scene in two]

    def styles(seen: PictureSet) -> list[bool]:
        found = seen.style_margins.argmax(1)
        return [STYLE_NAMES[int(k)] == scene.style.name for k, scene in zip(found, styled, strict=True)]

    def grounds(seen: PictureSet) -> list[bool]:
        found = seen.overview.grounds.argmax(1)
        return [GROUND_KINDS[int(k)] == scene.ground.kind for k, scene in zip(found, plain, strict=True)]

    def counts(seen: PictureSet) -> list[bool]:
        found = [max((1, 2, 3), key=lambda n, c=c: count_fidelity(c, n)) for c in seen.extracted.centres]
        return [n == len(scene.subjects) for n, scene in zip(found, plain, strict=True)]

    yield from rows_of(pack, "1 styled", [render(s, pack, 64).image for s in styled], {"style": styles})
    judges: dict[str, Hits] = {"ground": grounds, "count": counts}
    yield from rows_of(pack, "1 and 2 plain", [render(s, pack, 64).image for s in plain], judges)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=positive, default=60, help="pictures of each kind (%(default)s)")
    parser.add_argument("--pack", default="font", help="glyph pack (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    pack = load_pack(options.pack).prepare()
    print(f"{'judge':12}{'pictures':16}{'size':>5}{'right':>8}{'floor':>8}{'ms each':>9}")
    for rows in (subject_rows, portrait_rows, other_rows):
        for judge, pictures, size_px, right, floor, milliseconds in rows(pack, options.count):
            print(f"{judge:12}{pictures:16}{size_px:5d}{right:8.3f}{floor:8.3f}{milliseconds:9.1f}", flush=True)


if __name__ == "__main__":
    main()
