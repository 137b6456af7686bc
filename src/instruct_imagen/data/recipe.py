"""What a run is trained on: a source for each stage, and the mixture of the second with its ratios.

As JSON, for `instruct-imagen train --data FILE`:

    {"pretrain": "world", "stage1": "clusters/",
     "stage2": [{"name": "subject", "ratio": 0.3}, {"name": "mine", "ratio": 0.7, "source": "mine/train.jsonl"}]}

A source is "world", a folder of shards, or a JSONL file; paths are relative to the file. `"num_templates": 1` uses one
wording a task, 0 none (for baselines without instructions).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .report import DataError

WORLD = "world"
MIXTURES = ("stage2", "super_resolution")  # the stages that mix data sets


@dataclass(frozen=True)
class MixtureEntry:
    """One data set of the mixture.

    Attributes:
        name: of the data set; where the source is the world, the task that it builds.
        ratio: its share of the examples; the shares need not sum to one.
        source: "world", a folder of shards, or a JSONL file.
    """

    name: str
    ratio: float
    source: str = WORLD


# Table 1 of the paper, all of it from the rendered world.
TABLE_1 = (
    MixtureEntry("text", 0.15),
    MixtureEntry("art", 0.05),
    MixtureEntry("depth", 0.06),
    MixtureEntry("mask", 0.06),
    MixtureEntry("edge", 0.06),
    MixtureEntry("sketch", 0.02),
    MixtureEntry("subject", 0.30),
    MixtureEntry("face", 0.05),
    MixtureEntry("face_hq", 0.05),
    MixtureEntry("style", 0.10),
    MixtureEntry("style_transfer", 0.10),
)
# Super-resolution learns from all of them, and from masked edits what it means to keep pixels.
SUPER_RESOLUTION = (*TABLE_1, MixtureEntry("edit", 0.10))


@dataclass(frozen=True)
class DataRecipe:
    """Sources of the stages.

    Attributes:
        pretrain: captioned pictures: "world", shards or JSONL.
        stage1: clusters: "world", or a folder that `instruct-imagen data clusters` wrote.
        stage2: the mixture.
        super_resolution: the mixture that the second network of the cascade learns from, at its own size.
        num_templates: how many wordings of each task the world uses, 0 for bare captions and pictures without
            instructions; all of them if None.
    """

    pretrain: str = WORLD
    stage1: str = WORLD
    stage2: tuple[MixtureEntry, ...] = TABLE_1
    super_resolution: tuple[MixtureEntry, ...] = SUPER_RESOLUTION
    num_templates: int | None = None

    def __post_init__(self) -> None:
        """Refuses an empty mixture, repeated names, ratios that are no shares, and a negative number of templates."""
        if self.num_templates is not None and self.num_templates < 0:
            raise DataError(f"num_templates must be 0 or more, not {self.num_templates}.")
        for stage in MIXTURES:
            entries: tuple[MixtureEntry, ...] = getattr(self, stage)
            names = [entry.name for entry in entries]
            if not names:
                raise DataError(f"The mixture of {stage} is empty; give it at least one data set.")
            if len(set(names)) < len(names):
                raise DataError(
                    f"The mixture names {max(names, key=names.count)!r} twice; give each data set its own name."
                )
            for entry in entries:
                if not 0 < entry.ratio < float("inf"):
                    raise DataError(f"The ratio of {entry.name!r} must be above zero, not {entry.ratio}.")


def recipe_from_dict(values: Mapping[str, Any]) -> DataRecipe:
    """A recipe from what `dataclasses.asdict` or a JSON file gives.

    Raises:
        DataError: unknown or missing keys, or values of the wrong type.
    """
    try:
        fields: dict[str, Any] = {name: str(value) for name, value in values.items()}
        if "num_templates" in values:
            count = values["num_templates"]
            fields["num_templates"] = None if count is None else int(count)
        for stage in (name for name in MIXTURES if name in values):
            fields[stage] = tuple(
                MixtureEntry(str(entry["name"]), float(entry["ratio"]), str(entry.get("source", WORLD)))
                for entry in values[stage]
            )
        return DataRecipe(**fields)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"not a data recipe: {type(error).__name__} at {error}") from error


def read_recipe(path: Path) -> DataRecipe:
    """Reads a recipe; relative paths in it begin at its folder.

    Raises:
        DataError: it cannot be read or is no recipe.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}).") from error
    if not isinstance(content, Mapping):
        raise DataError(f"{path} must hold a JSON object; see docs/training.md.")
    recipe = recipe_from_dict(content)

    def placed(source: str) -> str:
        return source if source == WORLD else str((path.parent / source).resolve())

    def mixed(entries: tuple[MixtureEntry, ...]) -> tuple[MixtureEntry, ...]:
        return tuple(MixtureEntry(e.name, e.ratio, placed(e.source)) for e in entries)

    return replace(
        recipe,
        pretrain=placed(recipe.pretrain),
        stage1=placed(recipe.stage1),
        stage2=mixed(recipe.stage2),
        super_resolution=mixed(recipe.super_resolution),
    )
