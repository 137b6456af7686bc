r"""From trained networks to a model that can be shipped: one folder, within its size, with a card that says what it is.

    python -m instruct_imagen.packaging package --base train/nano/pipeline --super-resolution train/nano-sr/pipeline \
        --out src/instruct_imagen/weights/instruct-imagen-nano
    python -m instruct_imagen.packaging card src/instruct_imagen/weights/instruct-imagen-nano

The card is written from the files in the folder alone: `training.json` of each network, `scores.json` and, of the model
that it replaces, `scores_before.json`; `super_resolution.json`, if the second network was measured.
`runs/ship.sh` does both with the evaluation between them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .cascade import SECOND_NETWORK, CascadeError, copy_base, entry, join, picture_size, read_index, read_json
from .data.recipe import WORLD
from .errors import UserError
from .files import replacing, write_json, write_text
from .training.checkpoint import TRAINING_FILE, CheckpointError, read_position

MAX_MIB = 64.0
LOG = "validation.jsonl"
SCORES, SCORES_BEFORE, MEASURED = "scores.json", "scores_before.json", "super_resolution.json"
CARD = "README.md"


def package(
    base: Path,
    out: Path,
    second: Path | None = None,
    noise_level: float | None = None,
    measured: Path | None = None,
    max_mib: float = MAX_MIB,
) -> float:
    """Writes the folder of a model; one that stands there is replaced, and its scores become those before.

    Args:
        base: folder of the base model.
        out: the model's folder; appears whole or not at all.
        second: folder of a cascade whose super-resolution is joined to the base; None ships the base alone.
        noise_level: of the augmentation in sampling, in place of the one that `second` was saved with.
        measured: `super_resolution.json` of the second network, to be put beside it.
        max_mib: refuse a larger folder.

    Returns:
        Its size in MiB.

    Raises:
        CascadeError: a part is missing, the two do not fit, or they are too large.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(out) as partial:
            if second is None:
                copy_base(base, partial)
            else:
                join(base, second, partial)
            _add_log(base, partial)
            if noise_level is not None:
                _set_noise_level(partial, noise_level)
            if measured is not None:
                shutil.copy(measured, partial / MEASURED)
            for name in (SCORES, SCORES_BEFORE):
                (partial / name).unlink(missing_ok=True)  # what is packaged now has not been measured
            if (out / SCORES).is_file():
                shutil.copy(out / SCORES, partial / SCORES_BEFORE)
            write_card(partial, out.name)
            size = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file()) / 2**20
            if size > max_mib:
                raise CascadeError(f"the model takes {size:.1f} MiB, more than {max_mib:g}")
    except OSError as error:
        raise CascadeError(f"the model cannot be packaged: {error}") from error
    return size


def _add_log(base: Path, folder: Path) -> None:
    """The base model's validation log, which a run keeps beside its pipeline."""
    for log in (base / LOG, base.parent / LOG):
        if log.is_file() and not (folder / LOG).exists():
            shutil.copy(log, folder / LOG)


def _set_noise_level(folder: Path, level: float) -> None:
    """Changes the saved default; the file is written anew, since it may be another name of the training's."""
    path = folder / SECOND_NETWORK / "config.json"
    write_json(path, {**read_json(path), "noise_level": level})


def write_card(folder: Path, name: str = "") -> Path:
    """Writes the model card of a folder, called `name` or as the folder is; returns its path."""
    write_text(folder / CARD, model_card(folder, name or folder.resolve().name))
    return folder / CARD


def model_card(folder: Path, name: str) -> str:
    """The card, in Markdown, from what lies in the folder.

    Raises:
        CascadeError: it is no model, or a file of it is damaged.
    """
    index = read_index(folder)
    parts = {"unet": folder, SECOND_NETWORK: folder / SECOND_NETWORK}
    parts = {network: place for network, place in parts.items() if network in index}
    lines = [f"# {name}", "", *_introduction(index, list(parts.values())), "", "## Parts", ""]
    lines += ["| network | picture | parameters | trained |", "|---|---|---|---|"]
    lines += [_part_row(network, folder, place) for network, place in parts.items()]
    lines += ["", "Positions and presets are in `training.json`, validation errors in `validation.jsonl`, beside each."]
    lines += ["", "## Scores", "", *_score_lines(folder)]
    if (folder / MEASURED).is_file():
        lines += ["", "## Super-resolution", "", *_measured_lines(read_json(folder / MEASURED))]
    return "\n".join(lines) + "\n"


def _introduction(index: dict[str, Any], places: Sequence[Path]) -> list[str]:
    """What it is and what it has seen."""
    what = "A cascade of two networks" if SECOND_NETWORK in index else "A base model"
    recorded = all((place / TRAINING_FILE).is_file() for place in places)
    recipes = [entry(place / TRAINING_FILE, "preset").get("data", {}) for place in places] if recorded else []
    if not recorded or any(source != WORLD for recipe in recipes for source in _sources(recipe)):
        return [f"{what}; what it was trained on is in `training.json`, as far as it was recorded."]
    words = (
        f"{what} trained in the rendered glyph world (docs/glyph-world.md) and on nothing else: a means to check the "
        "method and the code, not a general picture generator. It has never seen a photograph. The glyphs, styles, "
        "faces and wordings that are held out there were held out of every stage."
    )
    return textwrap.wrap(words, 120)


def _sources(recipe: dict[str, Any]) -> Iterator[str]:
    """Every source of a recipe in JSON form."""
    for value in recipe.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (entry["source"] for entry in value)


def _part_row(name: str, folder: Path, place: Path) -> str:
    config, size_px = read_json(folder / name / "config.json"), picture_size(folder / name)
    picture = f"{config['low_res_px']} to {size_px} px" if "low_res_px" in config else f"{size_px} px"
    if config.get("context_places") == "none":
        picture += ", text only"
    try:
        position, preset = read_position(place, TRAINING_FILE)
    except CheckpointError:
        return f"| `{name}` | {picture} | {_num_parameters(folder / name)} | not recorded |"
    if position.stage_index >= len(preset.stages):
        state = "complete"
    else:
        stage = preset.stages[position.stage_index]
        state = f"in {stage.stage}, step {position.step} of {stage.steps}"
    trained = f"`{preset.name}`: {state}; {position.total_steps} steps, {position.seconds / 3600:.1f} hours"
    return f"| `{name}` | {picture} | {_num_parameters(folder / name)} | {trained} |"


def _num_parameters(component: Path) -> str:
    """Parameters of a saved network in millions, read from the heads of its files."""
    from math import prod

    from safetensors import safe_open

    total = 0
    for file in component.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            total += sum(prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    return f"{total / 1e6:.1f} M"


def _score_lines(folder: Path) -> list[str]:
    """The suites' figures, before and after."""
    if not (folder / SCORES).is_file():
        return ["Not measured yet."]
    after = read_json(folder / SCORES)
    before = read_json(folder / SCORES_BEFORE) if (folder / SCORES_BEFORE).is_file() else {}
    lines = ["*before*: of the model that was shipped until now.", ""]
    for suite, tasks in after.items():
        lines += [f"| {suite} | before | after | interval | floor | ceiling | ceiling at its size | instructions |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for task, score in tasks.items():
            old = before.get(suite, {}).get(task)
            shown = "not measured" if old is None else f"{old['figure']:.3f}"
            low, high = score["interval"]
            lines.append(
                f"| `{task}` | {shown} | {score['figure']:.3f} | {low:.3f} .. {high:.3f} | {score['floor']:.3f} "
                f"| {score['ceiling']:.3f} | {score['ceiling_at_size']:.3f} | {score['count']} |"
            )
    return [*lines, "", "docs/evaluation.md says what they mean."]


def _measured_lines(measured: dict[str, Any]) -> list[str]:
    """What `evaluation.super_resolution` found."""
    lines = [
        f"At {measured['size_px']} px, {measured['steps']} steps. *small*: the pictures that were enlarged, true ones",
        "reduced or what the base model draws.",
        "",
        "| small | task | measure | model | noise level | figure | interval | difference to the first model |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for score in measured["scores"]:
        level = "" if score["noise_level"] is None else f"{score['noise_level']:g}"
        pairs = [score["interval"], score["difference"]]
        intervals = ["" if pair is None else f"{pair[0]:.3f} .. {pair[1]:.3f}" for pair in pairs]
        cells = [score["small"], score["task"], score["measure"], score["model"], level, f"{score['figure']:.3f}"]
        lines.append("| " + " | ".join([*cells, *intervals]) + " |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    from .arguments import positive_number, share

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("package", help="write a model's folder")
    make.add_argument("--base", type=Path, required=True, metavar="DIR")
    make.add_argument("--super-resolution", type=Path, metavar="DIR", help="a cascade whose second network is taken")
    make.add_argument("--out", type=Path, required=True, metavar="DIR")
    make.add_argument("--noise-level", type=share, metavar="L", help="default of sampling, 0..1")
    make.add_argument("--measured", type=Path, metavar="FILE", help="super_resolution.json to put into the card")
    make.add_argument("--max-mib", type=positive_number, default=MAX_MIB, metavar="N")
    card = commands.add_parser("card", help="write the card of a folder anew, from the scores in it")
    card.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "card":
            print(write_card(options.folder))
        else:
            chosen = (options.super_resolution, options.noise_level, options.measured, options.max_mib)
            print(f"{options.out}: {package(options.base, options.out, *chosen):.1f} MiB")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
