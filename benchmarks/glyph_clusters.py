"""Builds clusters of a rendered corpus with planted copies, and measures what came out against what was planted.

    python benchmarks/glyph_clusters.py --num-pairs 50000 --out out/glyph-clusters --workers 2

The corpus is webdataset shards of captioned pictures of the glyph world, a few pictures for each subject. One pair in
twenty is a near-duplicate of the one before it (recompressed, or reduced and enlarged, or a little brighter, under
another address), one in fifty a URL twin (another picture under the address of the one before it). What pair `i` is
depends on (seed, i) alone, so the truth needs no file. Prints, and writes as `OUT/measured.json`:

* `subject_purity`: mean over clusters of the largest share of members that show one glyph,
* `concept_purity`: the same for one group of glyphs (animals, food, ...),
* `clusters_of_other_sizes`, `clusters_with_copies`, `clusters_with_twins`: must be 0,
* `copies_in_different_clusters`: of one original; none is lost to training by it, but more is repetition.

--engine ray does the build as Ray Data jobs; --compare-with DIR then says whether the shards equal those of a build
elsewhere.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from PIL import Image, ImageEnhance

from instruct_imagen.files import make_folder, write_atomically, write_json
from instruct_imagen.retrieval.builder import ClusterConfig, build_clusters
from instruct_imagen.retrieval.clusters import CLUSTER_SIZE, ClusterRules
from instruct_imagen.retrieval.domains import world_domains
from instruct_imagen.retrieval.duplicates import DuplicateRules
from instruct_imagen.retrieval.embedders import Embedder
from instruct_imagen.retrieval.engines import Engine, LocalEngine
from instruct_imagen.retrieval.glyph_embedder import WEIGHTS, GlyphEmbedder
from instruct_imagen.retrieval.ray_engine import RayEngine
from instruct_imagen.retrieval.writing import ShardOptions
from instruct_imagen.world import GlyphPack, Scene, SceneSampler, caption, load_pack, render

PAIRS_PER_SHARD = 1000
COPY_EVERY, TWIN_EVERY = 20, 50
SIZE_PX = 64
STYLED_SHARE = 0.3


@dataclass(frozen=True)
class Corpus:
    """What is rendered; pair `index` depends on (seed, index) alone.

    Attributes:
        num_pairs: how many.
        pack: of the glyphs, a name that `load_pack` takes.
        seed: of everything.
    """

    num_pairs: int
    pack: str = "auto"
    seed: int = 0

    def original(self, index: int) -> int:
        """The pair that this one is a near-duplicate of, or itself."""
        return index - 1 if index % COPY_EVERY == COPY_EVERY - 1 else index

    def url(self, index: int) -> str:
        """Its address; twins name that of the pair before them in another way."""
        if index % TWIN_EVERY == TWIN_EVERY // 2:
            return f"http://www.example.org/{index - 1}.png#twin"
        return f"https://example.org/{index}.png"

    def twin_of(self, index: int) -> int:
        """The pair whose address it has, or itself."""
        return index - 1 if index % TWIN_EVERY == TWIN_EVERY // 2 else index

    def scene(self, index: int) -> Scene:
        """What its picture shows."""
        rng = np.random.default_rng([self.seed, self.original(index)])
        return _sampler(self.pack).sample(rng, num_subjects=1)

    def record(self, index: int) -> tuple[bytes, str, dict[str, str]]:
        """PNG or JPEG bytes, caption, metadata."""
        rng = np.random.default_rng([self.seed, index, 1])
        scene, pack = self.scene(index), _pack(self.pack)
        image = Image.fromarray(render(scene, pack, SIZE_PX).image)
        content = io.BytesIO()
        if self.original(index) == index:
            image.save(content, "PNG")
        else:
            _changed(image, rng).save(content, "JPEG", quality=int(rng.integers(70, 95)))
        return content.getvalue(), caption(scene, pack, rng), {"url": self.url(index)}


def _changed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A picture as somebody else's copy of it is."""
    kind = int(rng.integers(3))
    if kind == 0:
        return image
    if kind == 1:
        return image.resize((SIZE_PX * 5 // 4,) * 2, Image.Resampling.BICUBIC)
    return ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.95, 1.05)))


@lru_cache(maxsize=1)
def _pack(name: str) -> GlyphPack:
    return load_pack(name).prepare()


@lru_cache(maxsize=1)
def _sampler(name: str) -> SceneSampler:
    return SceneSampler(_pack(name), "train", plain_share=1 - STYLED_SHARE)


def write_shard(number: int, corpus: Corpus, folder: Path) -> int:
    """Writes one tar of the corpus, unless it is there; returns how many pairs it holds."""
    rows = range(number * PAIRS_PER_SHARD, min((number + 1) * PAIRS_PER_SHARD, corpus.num_pairs))
    path = folder / f"{number:05d}.tar"

    def write(partial_path: Path) -> None:
        with tarfile.open(partial_path, "w") as tar:
            for index in rows:
                picture, text, metadata = corpus.record(index)
                ending = "png" if corpus.original(index) == index else "jpg"
                for suffix, content in (
                    (ending, picture),
                    ("txt", text.encode()),
                    ("json", json.dumps(metadata).encode()),
                ):
                    member = tarfile.TarInfo(f"{index:08d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))

    if not path.is_file():
        write_atomically(path, write)
    return len(rows)


def measure(out: Path, corpus: Corpus) -> dict[str, Any]:
    """Compares the clusters in `OUT/clusters.parquet` with what was planted."""
    table = pyarrow.parquet.read_table(out / "clusters.parquet")
    clusters: dict[int, list[int]] = {}
    for cluster, key in zip(table["cluster"].to_pylist(), table["key"].to_pylist(), strict=True):
        clusters.setdefault(cluster, []).append(int(Path(key).stem.split("/")[-1]))
    groups = {glyph.key: glyph.group for glyph in _pack(corpus.pack).glyphs}
    subjects = {index: corpus.scene(index).glyphs[0] for members in clusters.values() for index in members}
    found = list(clusters.values())
    originals = [[corpus.original(index) for index in members] for members in found]
    twins = [[corpus.twin_of(index) for index in members] for members in found]
    everything = [original for members in originals for original in members]
    return {
        "num_clusters": len(found),
        "share_in_clusters": len(everything) / corpus.num_pairs,
        "subject_purity": _purity([[subjects[index] for index in members] for members in found]),
        "concept_purity": _purity([[groups[subjects[index]] for index in members] for members in found]),
        "clusters_of_other_sizes": sum(len(members) != CLUSTER_SIZE for members in found),
        "clusters_with_copies": sum(len(set(members)) < len(members) for members in originals),
        "clusters_with_twins": sum(len(set(members)) < len(members) for members in twins),
        "copies_in_different_clusters": len(everything) - len(set(everything)),
    }


def _purity(labels: Sequence[Sequence[str]]) -> float:
    return float(np.mean([Counter(members).most_common(1)[0][1] / len(members) for members in labels]))


def _shards(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted((folder / "shards").glob("*.tar")):
        yield path.name, path.read_bytes()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-pairs", type=int, default=50_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pack", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="of the glyph embedder (%(default)s)")
    parser.add_argument("--min-similarity", type=float, default=ClusterRules().min_similarity)
    parser.add_argument("--duplicate-similarity", type=float, default=DuplicateRules().min_similarity)
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--compare-with", type=Path, metavar="DIR", help="OUT of another run")
    args = parser.parse_args()
    corpus = Corpus(args.num_pairs, args.pack, args.seed)
    engine: Engine = RayEngine() if args.engine == "ray" else LocalEngine(args.workers)
    folder = make_folder(args.out / "corpus")
    start = time.perf_counter()
    numbers = range(-(-corpus.num_pairs // PAIRS_PER_SHARD))
    written = sum(LocalEngine(args.workers).map_units(partial(write_shard, corpus=corpus, folder=folder), numbers))
    seconds = {"corpus": time.perf_counter() - start}
    embedder: Embedder = GlyphEmbedder(args.weights)
    config = ClusterConfig(
        embedder,
        domains=world_domains(_pack(args.pack)),
        rules=ClusterRules(min_similarity=args.min_similarity, duplicates=DuplicateRules(args.duplicate_similarity)),
        shards=ShardOptions(SIZE_PX),
    )
    start = time.perf_counter()
    report = build_clusters(folder, args.out, config, engine)
    seconds["clusters"] = time.perf_counter() - start
    found = {
        "num_pairs": written,
        "engine": args.engine,
        "seconds": seconds,
        **measure(args.out, corpus),
        "steps": report.to_json()["steps"],
    }
    if args.compare_with:
        found["shards_equal"] = list(_shards(args.out)) == list(_shards(args.compare_with))
    write_json(args.out / "measured.json", found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
