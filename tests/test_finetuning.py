"""Fine-tuning on one's own examples: LoRA and the whole network, from a JSONL file to pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from training_runs import Run, assert_same_tensors, newest_tensors, seen_in, start

from instruct_imagen.cli import UsageError, main, parse_adapter
from instruct_imagen.data.world_tasks import WorldTasks
from instruct_imagen.instruction import Instruction
from instruct_imagen.lora import LORA_FILE, AdapterError, load_adapter
from instruct_imagen.model import ModelParts
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.presets import get_preset
from instruct_imagen.training.adapters import TARGETS
from instruct_imagen.training.own_data import own_data
from instruct_imagen.training.trainer import Trainer

NUM_EXAMPLES = 20
QUICK = ("--batch-size", "2", "--set", "data_workers=0", "--set", "stages.0.noise_levels=1", "--quiet")


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def own_examples(builtin_pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty masked edits of rendered scenes as a user would have them: one line each, pictures beside."""
    folder = tmp_path_factory.mktemp("own")
    tasks, lines = WorldTasks(builtin_pack, "train", 32), []
    for index in range(NUM_EXAMPLES):
        example = tasks.build("edit", np.random.default_rng(index), f"edit-{index}").example
        names = [f"{index}-{place}.png" for place in range(len(example.instruction.references))]
        for name, reference in zip(names, example.instruction.references, strict=True):
            reference.image.save(folder / name)
        example.target.save(folder / f"{index}.png")
        texts = example.instruction.to_json(names)
        lines.append(json.dumps({"task_type": "edit", "output_image": f"{index}.png", **texts}))
    (folder / "edits.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "edits.jsonl"


@pytest.fixture(scope="module")
def adapted(own_examples: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of LoRA, by the command."""
    out = tmp_path_factory.mktemp("finetuned") / "run"
    assert run("finetune", own_examples, "--model", model_folder, "--out", out, "--steps", 4, "--rank", 4, *QUICK) == 0
    return out


def test_only_the_adapter_is_written(adapted: Path, model_folder: Path):
    assert not (adapted / "pipeline").exists()
    names = set(newest_tensors(adapted))
    assert all("lora_A" in name or "lora_B" in name for name in names)
    size = sum(file.stat().st_size for file in (adapted / "lora").iterdir())
    assert size < 0.5 * sum(file.stat().st_size for file in (model_folder / "unet").iterdir())
    weights = load_file(adapted / "lora" / LORA_FILE)
    layers = {name.rsplit(".lora_", 1)[0] for name in weights}
    assert {target for target in TARGETS if any(layer.endswith(target) for layer in layers)} == set(TARGETS)
    training = json.loads((adapted / "lora" / "training.json").read_text())
    assert training["preset"]["base"] == str(model_folder)
    assert set(json.loads((adapted / "validation.jsonl").read_text().splitlines()[-1])) >= {"validation/edits/0.95"}


def test_the_adapter_draws_what_training_drew(adapted: Path, own_examples: Path, model_folder: Path, tmp_path: Path):
    """The same pictures as with the layers changed by hand, and others than the base model's."""
    pipeline = InstructImagenPipeline.from_pretrained(model_folder)
    pipeline.set_progress_bar_config(disable=True)
    instruction = Instruction("a red star")

    def draw(model: InstructImagenPipeline) -> torch.Tensor:
        return model(instruction, 2, generator=torch.Generator().manual_seed(0), output_type="pt").images

    base = draw(pipeline)
    average = newest_tensors(adapted)
    by_hand = InstructImagenPipeline.from_pretrained(model_folder)
    by_hand.set_progress_bar_config(disable=True)
    with torch.no_grad():
        for name in (name for name in average if name.startswith("average.") and ".lora_A." in name):
            layer = by_hand.unet.get_submodule(name.removeprefix("average.unet.").split(".lora_A.")[0])
            layer.weight += average[name.replace("lora_A", "lora_B")] @ average[name]
    pipeline.load_lora(adapted / "lora")
    drawn = draw(pipeline)
    torch.testing.assert_close(drawn, draw(by_hand), rtol=0, atol=1e-4)
    assert (drawn - base).abs().max() > 1e-3
    without = InstructImagenPipeline.from_pretrained(model_folder)
    without.set_progress_bar_config(disable=True)
    without.load_lora(adapted / "lora", scale=0.0)
    torch.testing.assert_close(draw(without), base, rtol=0, atol=1e-6)
    arguments = ("generate", "a red star", "--model", model_folder, "--steps", 2, "--size", 32, "--quiet")
    assert run(*arguments, "--lora", adapted / "lora", "--out", tmp_path / "adapted.png") == 0
    assert run(*arguments, "--lora", f"{adapted / 'lora'}=0", "--out", tmp_path / "none.png") == 0
    assert run(*arguments, "--out", tmp_path / "base.png") == 0
    assert (tmp_path / "none.png").read_bytes() == (tmp_path / "base.png").read_bytes()
    assert (tmp_path / "adapted.png").read_bytes() != (tmp_path / "base.png").read_bytes()


def test_two_adapters_act_together(adapted: Path, model_folder: Path):
    pipeline = InstructImagenPipeline.from_pretrained(model_folder, dtype=torch.bfloat16)
    for scale in (1.0, 0.5):
        pipeline.load_lora(adapted / "lora", scale)
    layer = pipeline.unet.context_layers[0][0].to_q
    assert list(layer.active_adapters) == ["lora0", "lora1"]
    assert (layer.scaling["lora0"], layer.scaling["lora1"]) == (1.0, 0.5)
    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.bfloat16}


def test_resuming_an_adapter_is_exact(own_examples: Path, model_folder: Path, adapted: Path, tmp_path: Path):
    out = tmp_path / "run"
    command = ("finetune", own_examples, "--model", model_folder, "--out", out, "--steps", 4, "--rank", 4, *QUICK)
    preset = get_preset("finetune", ["stages.0.lora_rank=4", "stages.0.steps=4", *(QUICK[3::2][:2]), "stages.0.batch_size=2"])
    from dataclasses import replace

    Trainer(replace(preset, data=own_data([own_examples])), out, init=model_folder).run(max_steps=2)
    assert run(*command, "--resume", "latest") == 0
    assert_same_tensors(newest_tensors(out), newest_tensors(adapted))
