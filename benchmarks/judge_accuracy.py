"""How often judges are right on true pictures of held-out glyphs, at 64 pixels and at 32, and the time they take.

    python benchmarks/judge_accuracy.py --count 60

Subjects, people and hats are chosen among 16 (hats among 8); templates and synthesis are compared on the same pictures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch

from instruct_imagen.evaluation.conditions import PictureSet, pack_judges
from instruct_imagen.evaluation.judges.extractor import count_fidelity
from instruct_imagen.evaluation.judges.spoiling import reduced
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

Row = tuple[str, str, int, float, float]  # judge, pictures, size, share that is right, milliseconds each


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


def timed(judge: str, pictures: str, size_px: int, hits: Callable[[], Sequence[bool]]) -> Row:
    """Runs a judge and measures."""
    start = time.process_time()
    right = list(hits())
    return judge, pictures, size_px, float(np.mean(right)), 1000 * (time.process_time() - start) / len(right)


def subject_rows(pack: GlyphPack, count: int) -> list[Row]:
    """Templates and synthesis on one and two subjects, plain and styled."""
    rows = []
    glyphs = SceneSampler(pack, "held_out").glyphs
    judges = pack_judges(pack)
    for num_subjects, styled in ((1, False), (1, True), (2, False), (2, True)):
        rng = np.random.default_rng((SEED, num_subjects, styled))
        scenes = draw_scenes(pack, count // num_subjects, num_subjects, styled, rng)
        asked = [(k, s, candidates_for(x, s, glyphs, rng)) for k, x in enumerate(scenes) for s in range(num_subjects)]
        name = f"{num_subjects} {'styled' if styled else 'plain'}"
        for size_px in SIZES_PX:
            shown = [reduced(render(scene, pack, 64).image, size_px) for scene in scenes]
            pictures = PictureSet(
                [cv2.resize(p, (size_px, size_px), interpolation=cv2.INTER_AREA) for p in shown], pack
            )
            _ = pictures.extracted
            templates = judges.single if num_subjects == 1 else judges.several

            def by_templates(asked=asked, scenes=scenes, shown=shown, templates=templates) -> list[bool]:
                return [templates.choose(shown[k], c) == scenes[k].glyphs[s] for k, s, c in asked]

            def by_synthesis(asked=asked, scenes=scenes, pictures=pictures) -> list[bool]:
                best = [c[int(pictures.sight(k, scenes[k], s, c).shares.argmax())] for k, s, c in asked]
                return [found == scenes[k].glyphs[s] for found, (k, s, _) in zip(best, asked, strict=True)]

            rows.append(timed("templates", name, size_px, by_templates))
            rows.append(timed("synthesis", name, size_px, by_synthesis))
    return rows


def portrait_rows(pack: GlyphPack, count: int) -> list[Row]:
    """People among sixteen in one mood and outfit, and hats."""
    sampler, portraits, rng = PortraitSampler("held_out"), Portraits(), np.random.default_rng((SEED, 9))
    scenes = [sampler.scene(rng) for _ in range(count)]
    faces = pack_judges(pack).faces
    rows = []
    for size_px in SIZES_PX:
        shown = [reduced(render(scene, portraits, 64).image, size_px) for scene in scenes]

        def people(shown=shown) -> list[bool]:
            hits = []
            for picture, scene in zip(shown, scenes, strict=True):
                asked = parse_portrait(scene.glyphs[0])
                others = [replace(asked, identity=sampler.identity(rng)).key for _ in range(NUM_CANDIDATES - 1)]
                hits.append(faces.choose(picture, sorted([asked.key, *others])) == asked.key)
            return hits

        def hats(shown=shown) -> list[bool]:
            hits = []
            for picture, scene in zip(shown, scenes, strict=True):
                asked = parse_portrait(scene.glyphs[0])
                if asked.hat != "none":
                    keys = [replace(asked, hat=hat).key for hat in HATS]
                    hits.append(faces.choose(picture, keys) == asked.key)
            return hits

        rows += [timed("templates", "people", size_px, people), timed("templates", "hats", size_px, hats)]
    return rows


def other_rows(pack: GlyphPack, count: int) -> list[Row]:
    """Styles, grounds and the number of subjects."""
    rows = []
    for size_px in SIZES_PX:
        rng = np.random.default_rng((SEED, 10))
        styled = draw_scenes(pack, 2 * count, 1, True, rng)
        plain = draw_scenes(pack, count, 1, False, rng) + draw_scenes(pack, count, 2, False, rng)
        seen = {
            name: PictureSet([reduced(render(scene, pack, 64).image, size_px) for scene in scenes], pack)
            for name, scenes in (("styled", styled), ("plain", plain))
        }

        def styles(seen=seen, styled=styled) -> list[bool]:
            found = seen["styled"].style_margins.argmax(1)
            return [STYLE_NAMES[int(k)] == scene.style.name for k, scene in zip(found, styled, strict=True)]

        def grounds(seen=seen, plain=plain) -> list[bool]:
            found = seen["plain"].overview.grounds.argmax(1)
            return [GROUND_KINDS[int(k)] == scene.ground.kind for k, scene in zip(found, plain, strict=True)]

        def counts(seen=seen, plain=plain) -> list[bool]:
            centres = seen["plain"].extracted.centres
            found = [max((1, 2, 3), key=lambda n, k=k: count_fidelity(centres[k], n)) for k in range(len(plain))]
            return [n == len(scene.subjects) for n, scene in zip(found, plain, strict=True)]

        rows.append(timed("style", "1 styled", size_px, styles))
        rows.append(timed("ground", "1 and 2 plain", size_px, grounds))
        rows.append(timed("count", "1 and 2 plain", size_px, counts))
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60, help="pictures of each kind (%(default)s)")
    parser.add_argument("--pack", default="font", help="glyph pack (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    pack = load_pack(options.pack).prepare()
    print(f"{'judge':12}{'pictures':16}{'size':>5}{'right':>8}{'ms each':>9}")
    for rows in (subject_rows, portrait_rows, other_rows):
        for judge, pictures, size_px, right, milliseconds in rows(pack, options.count):
            print(f"{judge:12}{pictures:16}{size_px:5d}{right:8.3f}{milliseconds:9.1f}", flush=True)


if __name__ == "__main__":
    main()
