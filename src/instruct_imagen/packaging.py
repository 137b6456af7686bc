r"""From trained networks to a model that can be shipped: one folder, within its size, with a card that says what it is.

    python -m instruct_imagen.packaging package --base train/nano/pipeline --super-resolution train/nano-sr/pipeline \
        --out src/instruct_imagen/weights/instruct-imagen-nano
    python -m instruct_imagen.packaging adapter train/edit/lora --name edit \
        --model src/instruct_imagen/weights/instruct-imagen-nano --before out/before --after out/after
    python -m instruct_imagen.packaging blend src/instruct_imagen/weights/instruct-imagen-nano train/more/pipeline \
        --share 0.7 --out train/blend/pipeline
    python -m instruct_imagen.packaging card src/instruct_imagen/weights/instruct-imagen-nano

A model's own adapters (docs/finetuning.md) lie in its folder, and are gone when it is packaged anew: they fit no other
weights. The card is written from the files in the folder alone: `training.json` of each network, `scores.json` and, of
the model that it replaces, `scores_before.json`; `super_resolution.json`, if the second network was measured. An
adapter's `scores_before.json` are those of the model without it. `runs/ship.sh` and `runs/ship_edit.sh` do it all,
with the evaluation between.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .blending import BLEND, blend
from .cascade import SECOND_NETWORK, CascadeError, copy_base, entry, join, picture_size, read_index, read_json
from .data.recipe import WORLD
from .errors import UserError
from .files import replacing, write_json, write_text
from .lora import ADAPTERS, DRAWING_FILE, LORA_FILE, adapter_guidance, own_adapters
from .presets import Preset
from .training.checkpoint import TRAINING_FILE, CheckpointError, read_position, write_training_file

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
            size = _mib(partial)
            if size > max_mib:
                raise CascadeError(f"the model takes {size:.1f} MiB, more than {max_mib:g}")
    except OSError as error:
        raise CascadeError(f"the model cannot be packaged: {error}") from error
    return size


def package_adapter(
    adapter: Path,
    model: Path,
    name: str,
    before: Path | None = None,
    after: Path | None = None,
    guidance: float | None = None,
    max_mib: float = MAX_MIB,
) -> float:
    """Puts an adapter into the folder of the model that it was trained for, in bfloat16, and into the model's card.

    Args:
        adapter: folder that fine-tuning has written, `OUT/lora`.
        model: the model's folder.
        name: by which `load_lora` and `--lora` find it; one of that name is replaced.
        before, after: folders of `evaluate` without and with it, over the same suites.
        guidance: the scale that suits it, which `load_lora` then makes the pipeline's own.
        max_mib: refuse where the model's folder would become larger.

    Returns:
        The size of the model's folder with it in MiB.

    Raises:
        AdapterError: there is no adapter, or it is for another model.
        CheckpointError: its `training.json` is missing or damaged.
        CascadeError: the model or scores are missing, or it is too large; or no folder can have that name.
    """
    from .pipeline import InstructImagenPipeline

    if name != Path(name).name or name.startswith("."):
        raise CascadeError(f"{name!r} is no name of a folder")
    read_index(model)
    position, preset = read_position(adapter, TRAINING_FILE)
    InstructImagenPipeline.from_pretrained(model, super_resolution=None).load_lora(adapter.resolve())
    out = model / ADAPTERS / name
    out.parent.mkdir(exist_ok=True)
    try:
        with replacing(out) as partial:
            partial.mkdir()
            with safe_open(adapter / LORA_FILE, "pt") as file:
                weights = {key: file.get_tensor(key).to(torch.bfloat16) for key in file.keys()}  # noqa: SIM118
                save_file(weights, partial / LORA_FILE, metadata=file.metadata())
            write_training_file(partial, position, _without_places(preset, model.resolve().name))
            if guidance is not None:
                write_json(partial / DRAWING_FILE, {"guidance": guidance})
            for scores, kept in ((before, SCORES_BEFORE), (after, SCORES)):
                if scores is not None:
                    shutil.copy(scores / SCORES, partial / kept)
            size = _mib(model) - _mib(out)
            if size > max_mib:
                raise CascadeError(f"the model would take {size:.1f} MiB, more than {max_mib:g}")
    except OSError as error:
        raise CascadeError(f"the adapter cannot be packaged: {error}") from error
    write_card(model)
    return _mib(model)


def _without_places(preset: Preset, base: str) -> Preset:
    """The same with names for the paths of the training's machine, which mean nothing elsewhere."""
    named = tuple(replace(item, source=Path(item.source).name) for item in preset.data.stage2)
    return replace(preset, base=base, data=replace(preset.data, stage2=named))


def _mib(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


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
    for adapter, place in own_adapters(folder).items():
        lines += ["", f"## Adapter `{adapter}`", "", *_adapter_lines(place)]
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
    if how := read_json(place / TRAINING_FILE).get(BLEND):
        known = how["from_steps"] is not None
        begun = f"its state after {how['from_steps']} steps" if known else "an earlier state"
        trained += f"; {how['share']:.0%} of the way from {begun}"
    return f"| `{name}` | {picture} | {_num_parameters(folder / name)} | {trained} |"


def _num_parameters(component: Path) -> str:
    """Parameters of a saved network in millions, read from the heads of its files."""
    from math import prod

    total = 0
    for file in component.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            total += sum(prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    return f"{total / 1e6:.1f} M"


def _score_lines(folder: Path, before_means: str = "of the model that was shipped until now") -> list[str]:
    """The suites' figures, before and after."""
    if not (folder / SCORES).is_file():
        return ["Not measured yet."]
    after = read_json(folder / SCORES)
    before = read_json(folder / SCORES_BEFORE) if (folder / SCORES_BEFORE).is_file() else {}
    lines = [f"*before*: {before_means}.", ""]
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


def _adapter_lines(folder: Path) -> list[str]:
    """What it was trained on and what it changes."""
    position, preset = read_position(folder, TRAINING_FILE)
    sources = ", ".join(f"`{item.name}`" for item in preset.data.stage2)
    stage = preset.stages[0]
    lines = [f"LoRA of rank {stage.lora_rank}; {position.total_steps * stage.batch_size} examples of {sources}."]
    if (guidance := adapter_guidance(folder)) is not None:
        lines.append(f"Drawn with a guidance of {guidance:g} where none is asked for.")
    return [*lines, "", *_score_lines(folder, "the same without the adapter")]


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
    add = commands.add_parser("adapter", help="put an adapter into the folder of its model")
    add.add_argument("adapter", type=Path, metavar="DIR", help="OUT/lora of a fine-tuning")
    add.add_argument("--model", type=Path, required=True, metavar="DIR")
    add.add_argument("--name", required=True)
    add.add_argument("--before", type=Path, metavar="DIR", help="what `evaluate` wrote without it")
    add.add_argument("--after", type=Path, metavar="DIR", help="and with it")
    add.add_argument(
        "--guidance", type=positive_number, metavar="S", help="that suits it, used where none is asked for"
    )
    add.add_argument("--max-mib", type=positive_number, default=MAX_MIB, metavar="N")
    between = commands.add_parser("blend", help="write a base model between two states of its training")
    between.add_argument("before", type=Path, metavar="BEFORE")
    between.add_argument("after", type=Path, metavar="AFTER")
    between.add_argument("--share", type=share, required=True, metavar="S", help="0 is BEFORE, 1 is AFTER")
    between.add_argument("--out", type=Path, required=True, metavar="DIR")
    card = commands.add_parser("card", help="write the card of a folder anew, from the scores in it")
    card.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "card":
            print(write_card(options.folder))
        elif options.command == "blend":
            blend(options.before, options.after, options.share, options.out)
            print(options.out)
        elif options.command == "adapter":
            scores = (options.before, options.after)
            given = (options.adapter, options.model, options.name, *scores, options.guidance, options.max_mib)
            print(f"{options.model}: {package_adapter(*given):.1f} MiB")
        else:
            chosen = (options.super_resolution, options.noise_level, options.measured, options.max_mib)
            print(f"{options.out}: {package(options.base, options.out, *chosen):.1f} MiB")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
