"""The stage-1 builder (§3.2): from a corpus of image-text pairs to shards of clusters of five.

quality filter -> embedding -> domains by image-text matching -> ten nearest neighbours inside each domain ->
duplicates out -> exactly five a cluster, smaller ones discarded -> shards, report, contact sheet.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..data.pairs import Unit, list_units
from ..data.report import DataError, Report
from ..files import make_folder, write_atomically, write_json
from ..pictures import fit_square, load_image
from ..sheet import TILE_PX, SheetRow, contact_sheet
from .clusters import CLUSTER_SIZE, ClusterRules
from .domains import DEFAULT_DOMAINS, Domain, DomainTexts
from .embedders import Embedder
from .engines import Engine
from .grouping import Grouping, find_clusters
from .layout import Part, find_parts
from .quality import BasicQuality, QualityFilter
from .records import ClusterShards
from .units import EmbedJob, embed_unit
from .writing import ShardOptions, write_clusters

logger = logging.getLogger(__name__)

NUM_SHEET_ROWS = 16


@dataclass(frozen=True)
class ClusterConfig:
    """How clusters are built.

    Attributes:
        embedder: of pictures and texts.
        quality: what is too poor to learn from.
        domains: kinds of pictures; none at all searches the corpus as one.
        rules: neighbours, duplicates, clusters.
        shards: sizes and order of what is written.
        stored: a layout with embeddings made elsewhere by the same embedder, or None.
        min_caption_similarity: pairs whose picture and caption are less alike are dropped; None does not compare.
        batch_size: pictures of a unit in memory at once.
        strict: a damaged picture ends the build instead of being counted.
    """

    embedder: Embedder
    quality: QualityFilter = field(default_factory=BasicQuality)
    domains: tuple[Domain, ...] = DEFAULT_DOMAINS
    rules: ClusterRules = field(default_factory=ClusterRules)
    shards: ShardOptions = field(default_factory=ShardOptions)
    stored: Path | None = None
    min_caption_similarity: float | None = None
    batch_size: int = 64
    strict: bool = False


def build_clusters(source: Path, out: Path, config: ClusterConfig, engine: Engine) -> Report:
    """Builds clusters of a corpus; called again after an interruption, it does nothing twice.

    Writes `OUT/shards/` (see `records`), `OUT/clusters.parquet`, `OUT/report.json`, `OUT/clusters.png`; `OUT/work`
    keeps the embeddings of every unit, in clip-retrieval's layout, so that other rules can be tried without embedding
    again.

    Args:
        source: a corpus that `list_units` reads.
        out: folder.
        config: how.
        engine: where the work is done.

    Returns:
        What was kept and dropped, by step.

    Raises:
        DataError: the corpus or something in `out` does not fit, or there is not one cluster.
    """
    units = sorted(list_units(source), key=lambda unit: unit.name)
    work = make_folder(out / "work")
    check_settings(work / "settings.json", config)
    job = EmbedJob(
        work / "units",
        config.embedder,
        config.quality,
        config.stored,
        config.min_caption_similarity,
        config.batch_size,
        config.strict,
    )
    report = embed_units(units, job, engine)
    domains = DomainTexts.of(config.domains, config.embedder)
    grouping = find_clusters(_parts(job.work, units), domains, config.rules, engine)
    report.merge(grouping.report)
    _write_report(out / "report.json", source, config, report, grouping)
    if not len(grouping.clusters):
        raise DataError(
            f"No five pictures of {source} are alike enough for a cluster ({out / 'report.json'} says what was "
            "dropped); lower the least similarity or take a larger corpus."
        )
    write_clusters(grouping, units, domains.names, out, config.shards, engine)
    write_atomically(out / "clusters.png", _sheet(ClusterShards(out), config.shards.seed).save)
    return report


def embed_units(units: Sequence[Unit], job: EmbedJob, engine: Engine) -> Report:
    """Embeds what is not embedded yet; the report is of all units, those of earlier runs included."""
    make_folder(job.work)
    report = Report(job.strict)
    results = engine.map_units(partial(embed_unit, job=job), units)
    for found in tqdm(results, "units", len(units), disable=not logger.isEnabledFor(logging.INFO)):
        report.merge(found)
    return report


def check_settings(path: Path, config: ClusterConfig) -> None:
    """Notes what the embeddings of a build depend on, so that those of two settings never meet.

    Raises:
        DataError: they were made with other settings.
    """
    settings = {
        "embedder": config.embedder.name,
        "quality": config.quality.name,
        "stored": str(config.stored) if config.stored else None,
        "min_caption_similarity": config.min_caption_similarity,
    }
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        if differing := [name for name, value in settings.items() if known.get(name) != value]:
            name = differing[0]
            raise DataError(
                f"{path.parent} holds embeddings of another {name} ({known.get(name)}, now {settings[name]}); choose "
                "another folder, or remove that one."
            )
        return
    write_json(path, settings)


def _parts(work: Path, units: Sequence[Unit]) -> tuple[Part, ...]:
    return tuple(find_parts(work / unit.name)[0] for unit in units)


def _write_report(path: Path, source: Path, config: ClusterConfig, report: Report, grouping: Grouping) -> None:
    report.write(
        path,
        source=str(source),
        embedder=config.embedder.name,
        quality=config.quality.name,
        rules=repr(config.rules),
        num_clusters=len(grouping.clusters),
        num_pictures=CLUSTER_SIZE * len(grouping.clusters),
        domains=list(grouping.summaries),
    )


def _sheet(clusters: ClusterShards, seed: int) -> Image.Image:
    """Random clusters with their captions, one a row."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(clusters), min(NUM_SHEET_ROWS, len(clusters)), replace=False))
    rows = []
    for record in (clusters[index] for index in chosen.tolist()):
        pictures = [fit_square(load_image(picture), TILE_PX) for picture in record.pictures]
        title = f"{record.domain}, {record.key}"
        rows.append(SheetRow(title, record.captions[0], list(zip(record.captions, pictures, strict=True)), ()))
    return contact_sheet(rows, ("domain, cluster, first caption", "pictures", ""))
