"""A small corpus with planted copies, an embedder that needs no weights, and what a build of them has written."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from PIL import Image

from instruct_imagen.data.world_tasks import PLAIN_STYLE
from instruct_imagen.retrieval.builder import ClusterConfig
from instruct_imagen.retrieval.clusters import ClusterRules
from instruct_imagen.retrieval.domains import Domain
from instruct_imagen.retrieval.duplicates import DuplicateRules
from instruct_imagen.retrieval.embedders import unit_length
from instruct_imagen.retrieval.quality import BasicQuality
from instruct_imagen.retrieval.writing import ShardOptions
from instruct_imagen.world import SceneSampler, caption, render

NUM_GROUPS, GROUP_SIZE, NUM_FOLDERS = 36, 8, 4


@dataclass(frozen=True)
class HistogramEmbedder:
    """Colours of the four quarters of a picture; a text is a plain picture of the colour that it names."""

    name: str = "histogram"
    dim: int = 256

    def images(self, images):
        vectors = np.zeros((len(images), 4, 64), np.float32)
        for i, image in enumerate(images):
            values = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BOX)) // 64
            codes = (values * np.array([16, 4, 1])).sum(-1)
            quarters = codes.reshape(2, 16, 2, 16).transpose(0, 2, 1, 3).reshape(4, -1)
            vectors[i] = [np.bincount(quarter, minlength=64) for quarter in quarters]
        return unit_length(np.sqrt(vectors).reshape(len(images), 256))

    def texts(self, texts):
        return self.images([Image.new("RGB", (32, 32), text) for text in texts])


CONFIG = ClusterConfig(
    HistogramEmbedder(),
    BasicQuality(min_side_px=32, min_sharpness=1.0),
    (Domain("light", ("white", "silver")), Domain("dark", ("black", "darkgreen")), Domain("warm", ("red", "orange"))),
    ClusterRules(min_similarity=0.8, duplicates=DuplicateRules(0.9995, 3)),
    ShardOptions(picture_px=48, clusters_per_shard=8),
    batch_size=16,
)


def save(image, path, url, text, lines):
    image.save(path)
    lines.append({"file_name": path.name, "caption": text, "url": url})


def write_corpus(root, pack):
    """300 pairs in four folders, each with a list of captions; eight pictures share a subject and a ground."""
    rng, sampler = np.random.default_rng(5), SceneSampler(pack, "train")
    lines = {f"part{number}": [] for number in range(NUM_FOLDERS)}
    for name in lines:
        (root / name).mkdir(parents=True)
    for group in range(NUM_GROUPS):
        first = sampler.sample(rng, num_subjects=1, style=PLAIN_STYLE)
        for member in range(GROUP_SIZE):
            scene = sampler.sample(rng, glyphs=first.glyphs, ground=first.ground, style=PLAIN_STYLE)
            name = f"part{(group + member) % NUM_FOLDERS}"
            image = Image.fromarray(render(scene, pack, 64).image, "RGB")
            path = root / name / f"g{group:02d}_{member}.png"
            url = f"https://example.org/{group}/{member}.png" if member else ""
            save(image, path, url, caption(scene, pack, rng), lines[name])
            if member == 3 and group % 6 == 0:  # recompressed, elsewhere
                save(image, root / "part0" / f"g{group:02d}_copy.jpg", f"{url}?jpg", "a copy", lines["part0"])
            if member == 4 and group % 6 == 1:  # another picture, for all one can see, of the same address
                turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                save(turned, root / "part1" / f"g{group:02d}_twin.png", f"{url}#x", "a twin", lines["part1"])
    save(Image.new("RGB", (64, 64), "red"), root / "part2" / "flat.png", "", "nothing", lines["part2"])
    (root / "part2" / "broken.png").write_bytes(b"no picture")
    lines["part2"].append({"file_name": "broken.png", "caption": "broken"})
    for name, entries in lines.items():
        (root / name / "captions.jsonl").write_text("\n".join(map(json.dumps, entries)) + "\n")
    return root


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
