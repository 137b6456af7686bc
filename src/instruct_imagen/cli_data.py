"""The command line's data part: instruct-imagen data templates | build | clusters."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import natural, positive, share

if TYPE_CHECKING:
    from .data.controls import ControlModels
    from .retrieval.domains import Domain
    from .retrieval.embedders import Embedder
    from .retrieval.engines import Engine
    from .retrieval.quality import QualityFilter


def add_data(commands: argparse._SubParsersAction) -> Iterator[argparse.ArgumentParser]:
    """Adds `data` and its commands; yields those that run."""
    group = commands.add_parser("data", help="build and look at training data")
    parts = group.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    yield _add_templates(parts)
    yield _add_build(parts)
    yield _add_clusters(parts)


def _add_templates(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser("templates", help="print a task's instruction templates, one a line")
    command.add_argument("task", metavar="NAME", help="such as subject")
    command.add_argument("--split", choices=("all", "train", "held_out"), default="all", help="(%(default)s)")
    command.set_defaults(run=_templates)
    return command


def _add_build(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser("build", help="build one data set of the mixture into shards")
    command.add_argument("name", metavar="NAME", help="a data set of Table 1, such as subject, or edit")
    command.add_argument("--source", required=True, metavar="PATH", help="a corpus (docs/datasets.md), or world")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    command.add_argument("--count", type=positive, metavar="N", help="at most so many examples")
    command.add_argument("--size", type=positive, metavar="PX", help="side of the pictures (as they are; world: 64)")
    command.add_argument("--seed", type=natural, default=0, help="(%(default)s)")
    command.add_argument("--pack", default="auto", help="glyph pack of the world (%(default)s)")
    command.add_argument(
        "--examples-per-picture", type=positive, default=1, metavar="N", help="with one target (%(default)s)"
    )
    command.add_argument("--depth-model", metavar="MODEL", help="a depth estimation model of transformers")
    command.add_argument("--mask-model", metavar="MODEL", help="a segmentation model of transformers (GrabCut)")
    command.add_argument("--edge-model", type=Path, metavar="FILE", help="an edge detector in ONNX, as DexiNed (Canny)")
    command.add_argument("--embedder", metavar="MODEL", help="filter styled pictures by this CLIP, or by glyph")
    _add_shared(command, "processes, or with ray parts of the source (0: one)")
    command.set_defaults(run=_build)
    return command


def _add_clusters(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser("clusters", help="group a corpus of captioned pictures into clusters for stage 1")
    command.add_argument("source", type=Path, metavar="SOURCE", help="a corpus of pairs (docs/corpora.md)")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="goes on where it was interrupted")
    command.add_argument("--embedder", default="glyph", metavar="MODEL", help="a CLIP, or glyph (%(default)s)")
    command.add_argument("--stored", type=Path, metavar="DIR", help="embeddings in clip-retrieval's layout to use")
    command.add_argument(
        "--quality", default="basic", metavar="FILTER", help="basic, none, or an aesthetic head FILE.safetensors"
    )
    command.add_argument("--min-score", type=float, default=5.0, help="of the aesthetic head (%(default)s)")
    command.add_argument("--min-side", type=positive, default=64, metavar="PX", help="of good pictures (%(default)s)")
    command.add_argument("--min-caption-similarity", type=share, metavar="S", help="of picture and caption (any)")
    command.add_argument(
        "--domains", metavar="FILE", help='web, world, none, or JSON {"NAME": ["TEXT", ...]} (what suits the embedder)'
    )
    command.add_argument("--neighbours", type=positive, default=10, metavar="K", help="looked at (%(default)s)")
    command.add_argument("--min-similarity", type=share, default=0.7, metavar="S", help="in a cluster (%(default)s)")
    command.add_argument(
        "--duplicate-similarity", type=share, default=0.95, metavar="S", help="of two that are one (%(default)s)"
    )
    command.add_argument("--rounds", type=positive, default=3, metavar="N", help="1 is the paper's (%(default)s)")
    command.add_argument("--size", type=positive, default=256, metavar="PX", help="longest shorter side (%(default)s)")
    command.add_argument("--seed", type=natural, default=0, help="of the clusters' order (%(default)s)")
    _add_shared(command, "local processes (0: this one)")
    command.set_defaults(run=_clusters)
    return command


def _add_shared(command: argparse.ArgumentParser, workers: str) -> None:
    command.add_argument("--engine", choices=("local", "ray"), default="local", help="(%(default)s)")
    command.add_argument("--workers", type=natural, default=0, metavar="N", help=workers)
    command.add_argument("--ray-address", metavar="HOST:PORT", help="a running Ray cluster, or auto (a new one here)")
    command.add_argument("--download", action="store_true", help="models may be names on the hub, and are fetched")
    command.add_argument("--strict", action="store_true", help="stop at the first damaged record")


def _templates(options: argparse.Namespace) -> None:
    from .data.templates import COMBINATION_TASKS, Split, templates

    splits: tuple[Split, ...] = ("train", "held_out") if options.split == "all" else (options.split,)
    if options.task in COMBINATION_TASKS and options.split == "all":
        splits = ("held_out",)
    for split in splits:
        for template in templates(options.task, split):
            print(template.text)


def _build(options: argparse.Namespace) -> None:
    from .data.build import build_dataset
    from .data.sources import SourceOptions

    settings = SourceOptions(
        seed=options.seed,
        size_px=options.size,
        max_examples=options.count,
        examples_per_picture=options.examples_per_picture,
        controls=control_models(options),
        embedder=_embedder(options.embedder, options.download) if options.embedder else None,
    )
    report = build_dataset(
        options.name,
        options.source,
        options.out,
        settings,
        pack=options.pack,
        strict=options.strict,
        engine=_engine(options),
        num_parts=max(1, options.workers),
    )
    dropped = sum(count for step in report.steps.values() for count in step.dropped.values())
    print(f"{options.out}: {report.step('examples').kept} examples, {dropped} records dropped")


def _clusters(options: argparse.Namespace) -> None:
    from .retrieval.builder import ClusterConfig, build_clusters
    from .retrieval.clusters import ClusterRules
    from .retrieval.duplicates import DuplicateRules
    from .retrieval.writing import ShardOptions

    config = ClusterConfig(
        _embedder(options.embedder, options.download),
        _quality(options),
        _domains(options),
        ClusterRules(
            options.neighbours,
            options.min_similarity,
            DuplicateRules(options.duplicate_similarity),
            num_rounds=options.rounds,
        ),
        ShardOptions(options.size, seed=options.seed),
        options.stored,
        options.min_caption_similarity,
        strict=options.strict,
    )
    report = build_clusters(options.source, options.out, config, _engine(options))
    for name, step in report.steps.items():
        dropped = ", ".join(f"{count} {reason}" for reason, count in step.dropped.items())
        print(f"{name}: {step.kept} kept" + (f"; dropped: {dropped}" if dropped else ""))
    print(f"{options.out}/shards: {report.step('clusters').kept // 5} clusters; look at {options.out}/clusters.png")


def control_models(options: argparse.Namespace) -> ControlModels:
    from .data.control_models import TransformersDepth, TransformersMask
    from .data.controls import ControlModels
    from .data.edge_models import OnnxEdges

    chosen, local = ControlModels.classical(), not options.download
    if options.depth_model:
        chosen = replace(chosen, depth_model=TransformersDepth(options.depth_model, local_files_only=local))
    if options.mask_model:
        chosen = replace(chosen, mask_model=TransformersMask(options.mask_model, local_files_only=local))
    if options.edge_model:
        chosen = replace(chosen, edge_model=OnnxEdges(options.edge_model))
    return chosen


def _embedder(name: str, download: bool) -> Embedder:
    from .retrieval.embedders import ClipEmbedder
    from .retrieval.glyph_embedder import GlyphEmbedder

    return GlyphEmbedder() if name == "glyph" else ClipEmbedder(name, local_files_only=not download)


def _domains(options: argparse.Namespace) -> tuple[Domain, ...]:
    from .retrieval.domains import DEFAULT_DOMAINS, read_domains, world_domains
    from .world import load_pack

    chosen = options.domains or ("world" if options.embedder == "glyph" else "web")
    if chosen == "world":
        return world_domains(load_pack("auto"))
    known = {"web": DEFAULT_DOMAINS, "none": ()}
    return known[chosen] if chosen in known else read_domains(Path(chosen))


def _quality(options: argparse.Namespace) -> QualityFilter:
    from .retrieval.quality import AestheticHead, BasicQuality, NoFilter

    basic = BasicQuality(min_side_px=options.min_side)
    if options.quality in ("basic", "none"):
        return basic if options.quality == "basic" else NoFilter()
    return AestheticHead(Path(options.quality), options.min_score, basic)


def _engine(options: argparse.Namespace) -> Engine:
    from .retrieval.engines import LocalEngine
    from .retrieval.ray_engine import RayEngine

    return RayEngine(options.ray_address) if options.engine == "ray" else LocalEngine(options.workers)
