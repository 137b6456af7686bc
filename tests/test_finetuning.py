"""Fine-tuning on one's own examples: LoRA and the whole network, from a JSONL file to pictures."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from training_runs import Run, assert_same_tensors, newest_tensors, seen_in, start

from instruct_imagen.arguments import adapter
from instruct_imagen.cli import main
from instruct_imagen.data.report import DataError
from instruct_imagen.data.world_tasks import WorldTasks
from instruct_imagen.instruction import Instruction
from instruct_imagen.lora import LORA_FILE, AdapterError
from instruct_imagen.model_folders import DrawingDefaults, drawing_defaults
from instruct_imagen.packaging import main as package_main
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.presets import Preset, get_preset
from instruct_imagen.training.adapters import TARGETS
from instruct_imagen.training.beginning import BeginningError
from instruct_imagen.training.own_data import own_data
from instruct_imagen.training.trainer import Trainer, TrainingError

NUM_EXAMPLES = 20
SETS = ("data_workers=0", "stages.0.noise_levels=1")
QUICK = ("--batch-size", "2", *(part for value in SETS for part in ("--set", value)), "--quiet")


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


def preset_of(own_examples: Path, *overrides: str) -> Preset:
    """What the command of `adapted` trains."""
    sizes = ("stages.0.steps=4", "stages.0.decay_steps=0", "stages.0.batch_size=2", "stages.0.lora_rank=4")
    return replace(get_preset("finetune", [*sizes, *SETS, *overrides]), data=own_data([own_examples]))


def quiet_pipeline(folder: Path, **options) -> InstructImagenPipeline:
    pipeline = InstructImagenPipeline.from_pretrained(folder, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(model: InstructImagenPipeline, **options) -> torch.Tensor:
    options |= {"generator": torch.Generator().manual_seed(0), "output_type": "pt"}
    return model(Instruction("a red star"), 2, **options).images


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


def test_the_adapter_draws_what_training_drew(adapted: Path, model_folder: Path, tmp_path: Path):
    """The same pictures as with the layers changed by hand, and others than the base model's."""
    pipeline, by_hand, without = (quiet_pipeline(model_folder) for _ in range(3))
    base = draw(pipeline)
    average = newest_tensors(adapted)
    with torch.no_grad():
        for name in (name for name in average if name.startswith("average.") and ".lora_A." in name):
            layer = by_hand.unet.get_submodule(name.removeprefix("average.unet.").split(".lora_A.")[0])
            layer.weight += average[name.replace("lora_A", "lora_B")] @ average[name]
    pipeline.load_lora(adapted / "lora")
    drawn = draw(pipeline)
    torch.testing.assert_close(drawn, draw(by_hand), rtol=0, atol=1e-4)
    assert (drawn - base).abs().max() > 1e-3
    without.load_lora(adapted / "lora", scale=0.0)
    torch.testing.assert_close(draw(without), base, rtol=0, atol=1e-6)
    arguments = ("generate", "a red star", "--model", model_folder, "--steps", 2, "--size", 32, "--quiet")
    assert run(*arguments, "--lora", adapted / "lora", "--out", tmp_path / "adapted.png") == 0
    assert run(*arguments, "--lora", f"{adapted / 'lora'}=0", "--out", tmp_path / "none.png") == 0
    assert run(*arguments, "--out", tmp_path / "base.png") == 0
    assert (tmp_path / "none.png").read_bytes() == (tmp_path / "base.png").read_bytes()
    assert (tmp_path / "adapted.png").read_bytes() != (tmp_path / "base.png").read_bytes()


def test_two_adapters_act_together(adapted: Path, model_folder: Path):
    pipeline = quiet_pipeline(model_folder, dtype=torch.bfloat16)
    for scale in (1.0, 0.5):
        pipeline.load_lora(adapted / "lora", scale)
    layer = pipeline.unet.context_layers[0][0].to_q
    assert list(layer.active_adapters) == ["lora0", "lora1"]
    assert (layer.scaling["lora0"], layer.scaling["lora1"]) == (1.0, 0.5)
    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.bfloat16}


def test_resuming_an_adapter_is_exact(own_examples: Path, model_folder: Path, adapted: Path, tmp_path: Path):
    Trainer(preset_of(own_examples), tmp_path / "run", init=model_folder).run(max_steps=2)
    with pytest.raises(TrainingError, match="has lora_rank 4, not 8"):
        Trainer(preset_of(own_examples, "stages.0.lora_rank=8"), tmp_path / "run", resume=True).run()
    command = ("finetune", own_examples, "--out", tmp_path / "run", "--rank", 4, *QUICK)  # of the model it began with
    assert run(*command, "--steps", 4, "--resume", "latest") == 0
    assert_same_tensors(newest_tensors(tmp_path / "run"), newest_tensors(adapted))


def test_an_adapter_goes_on_from_another(own_examples: Path, model_folder: Path, adapted: Path, tmp_path: Path, capsys):
    """As after its base model has: with its rank, from its weights, which resuming then takes from the checkpoint."""
    begun = load_file(adapted / "lora" / LORA_FILE)
    command = ("finetune", own_examples, "--out", tmp_path / "run", "--lora", adapted / "lora", *QUICK)
    assert run(*command, "--model", model_folder, "--steps", 1, "--learning-rate", 1e-9) == 0
    found = load_file(tmp_path / "run" / "lora" / LORA_FILE)
    assert found.keys() == begun.keys()
    for name, value in begun.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)
    assert run(*command, "--steps", 3, "--resume", "latest") == 0
    after = load_file(tmp_path / "run" / "lora" / LORA_FILE)
    assert any(not torch.equal(value, begun[name]) for name, value in after.items())
    capsys.readouterr()
    others = tmp_path / "others"
    others.mkdir()
    save_file(begun, others / LORA_FILE)  # without its configuration
    command = ("finetune", own_examples, "--out", tmp_path / "none", "--model", model_folder, *QUICK)
    assert run(*command, "--lora", others) == 2
    assert "no adapter that fine-tuning wrote" in capsys.readouterr().err
    some = {name: value for name, value in begun.items() if "to_q_context" not in name}
    with safe_open(adapted / "lora" / LORA_FILE, framework="pt") as opened:
        save_file(some, others / LORA_FILE, metadata=opened.metadata())
    assert run(*command, "--lora", others) == 2
    assert "on other layers than fine-tuning adapts" in capsys.readouterr().err
    assert run(*command, "--lora", tmp_path / "nowhere") == 2
    assert "there is no adapter in" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_adapt_what_one_adapts(own_examples: Path, model_folder: Path, tmp_path: Path):
    """With sharded adapters, whose export is whole."""
    one, two = tmp_path / "one", tmp_path / "two"
    base = f"base={model_folder}"
    for folder, number in ((one, 1), (two, 2)):
        folder.mkdir()
        preset = preset_of(own_examples, base, "execution.precision=float32", "execution.parallel=fsdp")
        assert start(Run(preset, folder, report=True), number) == [0] * number
    expected, found = seen_in(one), seen_in(two)
    assert [step.marks for step in expected.values()] == [step.marks for step in found.values()]
    for step, seen in expected.items():
        assert found[step].loss == pytest.approx(seen.loss, rel=1e-4)
    first, second = (load_file(folder / "lora" / LORA_FILE) for folder in (one, two))
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_the_whole_network_is_tuned_and_the_rest_is_the_models(
    own_examples: Path, cascade_folder: Path, tmp_path: Path
):
    model, out = tmp_path / "model", tmp_path / "run"
    shutil.copytree(cascade_folder, model)
    (model / "super_resolution" / "training.json").write_text("{}")
    command = ("finetune", own_examples, "--model", model, "--out", out, "--steps", 2, "--full", *QUICK)
    assert run(*command) == 0
    before, after = InstructImagenPipeline.from_pretrained(model), quiet_pipeline(out / "pipeline")
    assert not torch.equal(before.unet.backbone.conv_in.weight, after.unet.backbone.conv_in.weight.float())
    for name, value in before.super_resolution.state_dict().items():
        assert torch.equal(value, after.super_resolution.state_dict()[name]), name
    assert (out / "pipeline" / "super_resolution" / "training.json").is_file()  # says how that network was trained
    assert after(Instruction("a red star"), 2).images[0].size == (64, 64)


def test_what_cannot_be_tuned_is_refused_before_anything_is_written(
    own_examples: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    out = tmp_path / "run"

    def refused(*arguments: object) -> str:
        assert run("finetune", *arguments, "--out", out, *QUICK) == 2
        assert not out.exists()
        return capsys.readouterr().err

    assert "does not exist" in refused(tmp_path / "none.jsonl", "--model", model_folder)
    broken = own_examples.with_name("broken.jsonl")
    broken.write_text(own_examples.read_text().replace('"0.png"', '"gone.png"'))
    assert "gone.png" in refused(broken, "--model", model_folder)
    assert "Traceback" not in refused(own_examples, "--model", tmp_path / "no model")
    with pytest.raises(SystemExit):
        run("finetune", own_examples, "--out", out, "--rank", 4, "--full")
    with pytest.raises(BeginningError, match="one lora_rank for all stages"):
        Trainer(get_preset("debug", ["stages.*.lora_rank=4"]), out)
    with pytest.raises(BeginningError, match="one lora_rank for all stages"):
        Trainer(get_preset("adapt", ["stages.0.lora_rank=4"]), out, init=model_folder)
    monkeypatch.setitem(sys.modules, "peft", None)
    assert "install instruct-imagen[lora]" in refused(own_examples, "--model", model_folder)


def test_own_examples_are_shown_equally_often(own_examples: Path, tmp_path: Path):
    few = own_examples.with_name("few.jsonl")
    few.write_text("".join(own_examples.read_text().splitlines(keepends=True)[:5]))
    recipe = own_data([own_examples, few])
    assert [(entry.name, entry.ratio) for entry in recipe.stage2] == [("edits", NUM_EXAMPLES), ("few", 5)]
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError):
        own_data([tmp_path / "empty.jsonl"])


def test_adapters_that_do_not_fit_are_refused(adapted: Path, model_folder: Path, pipeline, tmp_path: Path, capsys):
    base = quiet_pipeline(model_folder)
    weights = load_file(adapted / "lora" / LORA_FILE)
    name = next(name for name in weights if "lora_A" in name)
    wider = {**weights, name: torch.zeros(4, weights[name].shape[1] + 1)}
    unknown = {**weights, "backbone.nowhere.lora_A.weight": weights[name].clone()}
    for number, wrong in enumerate((wider, unknown)):
        folder = tmp_path / str(number)
        folder.mkdir()
        save_file(wrong, folder / LORA_FILE)
        with pytest.raises(AdapterError, match="is not for this model"):
            base.load_lora(folder)
    (tmp_path / "0" / LORA_FILE).write_bytes((adapted / "lora" / LORA_FILE).read_bytes()[:-10])
    with pytest.raises(AdapterError, match="is damaged"):
        base.load_lora(tmp_path / "0")
    assert not getattr(base.unet, "peft_config", {})
    assert torch.equal(draw(base), draw(quiet_pipeline(model_folder)))
    arguments = ("generate", "a red star", "--model", model_folder, "--out", tmp_path / "x.png", "--quiet")
    assert run(*arguments, "--lora", tmp_path) == 2
    assert "there is no adapter in" in capsys.readouterr().err


def test_a_complete_run_goes_on_when_more_steps_are_asked_for(
    adapted: Path, model_folder: Path, own_examples, tmp_path
):
    out = tmp_path / "run"
    shutil.copytree(adapted, out)
    before = load_file(out / "lora" / LORA_FILE)
    again = ("finetune", own_examples, "--out", out, "--resume", "latest", "--rank", 4, *QUICK)
    assert run(*again, "--steps", 4) == 0
    assert (out / "lora" / LORA_FILE).read_bytes() == (adapted / "lora" / LORA_FILE).read_bytes()
    assert run(*again, "--steps", 6) == 0
    position = json.loads((out / "lora" / "training.json").read_text())["position"]
    assert (position["stage_index"], position["total_steps"]) == (1, 6)
    assert any(not torch.equal(weight, before[name]) for name, weight in load_file(out / "lora" / LORA_FILE).items())
    assert run(*again, "--steps", 3) == 0, "fewer than were done: complete"


def test_a_run_goes_on_while_what_it_reads_of_its_base_stays_as_it_was(
    own_examples: Path, model_folder: Path, tmp_path: Path, capsys
):
    """So after its own adapter has been shipped with the base, but not after that has been trained."""
    model, out = tmp_path / "model", tmp_path / "run"
    shutil.copytree(model_folder, model)
    command = ("finetune", own_examples, "--out", out, "--resume", "latest", "--rank", 4, *QUICK)
    assert run(*command, "--model", model, "--steps", 1) == 0
    shutil.copytree(out / "lora", model / "lora" / "edit")
    assert run(*command, "--steps", 2) == 0
    file = next((model / "unet").glob("*.safetensors"))
    weights = load_file(file)
    next(iter(weights.values())).add_(1)
    save_file(weights, file, metadata={"format": "pt"})
    capsys.readouterr()
    assert run(*command, "--steps", 3) == 2
    assert f"the model {model} has changed since this run began" in capsys.readouterr().err


def test_a_model_comes_with_adapters_of_its_own(adapted: Path, model_folder: Path, tmp_path: Path, capsys):
    model, before, after = (tmp_path / name for name in ("model", "before", "after"))
    shutil.copytree(model_folder, model)
    score = {"figure": 0.5, "interval": [0.4, 0.6], "floor": 0.0, "ceiling": 0.9, "ceiling_at_size": 0.8, "count": 8}
    for folder, figure in ((before, 0.125), (after, 0.5)):
        folder.mkdir()
        (folder / "scores.json").write_text(json.dumps({"editing": {"edit": {**score, "figure": figure}}}))
    arguments = ("adapter", adapted / "lora", "--model", model, "--name", "edit", "--before", before, "--after", after)
    assert package_main(list(map(str, arguments))) == 0
    card = (model / "README.md").read_text()
    assert "## Adapter `edit`" in card and "LoRA of rank 4; 8 examples of `edits`." in card
    assert "| `edit` | 0.125 | 0.500 | 0.400 .. 0.600 |" in card
    training = (model / "lora" / "edit" / "training.json").read_text()
    assert str(adapted) not in training and str(tmp_path) not in training, "places of the training's machine"
    base, own, by_path = (quiet_pipeline(model) for _ in range(3))
    own.load_lora("edit")
    by_path.load_lora(adapted / "lora")
    assert (draw(own) - draw(base)).abs().max() > 1e-3
    torch.testing.assert_close(draw(own), draw(by_path), rtol=0, atol=0.02)  # kept in bfloat16
    drawing = ("generate", "a red star", "--model", model, "--steps", 2, "--quiet", "--out", tmp_path / "x.png")
    assert run(*drawing, "--lora", "edit=0.5") == 0
    assert run(*drawing, "--lora", "paint") == 2
    assert "the model has its own: edit" in capsys.readouterr().err
    kept = (model / "lora" / "edit" / LORA_FILE).read_bytes()
    for wrong, words in (
        ([*arguments, "--max-mib", "0.01"], "more than 0.01"),
        ([*arguments, "--name", "../edit"], "no name of a folder"),
        ([*arguments, "--after", tmp_path / "nothing"], "cannot be packaged"),
        (["adapter", adapted, "--model", model, "--name", "edit"], "training.json is missing"),
        (["adapter", adapted / "lora", "--model", adapted, "--name", "edit"], "model_index.json"),
    ):
        assert package_main(list(map(str, wrong))) == 2
        assert words in capsys.readouterr().err
        assert [path.name for path in (model / "lora").iterdir()] == ["edit"]
        assert (model / "lora" / "edit" / LORA_FILE).read_bytes() == kept


def test_an_adapter_brings_the_guidance_that_suits_it(adapted: Path, model_folder: Path, tmp_path: Path, capsys):
    model = tmp_path / "model"
    shutil.copytree(model_folder, model)
    arguments = ("adapter", adapted / "lora", "--model", model, "--name", "edit", "--guidance")
    assert package_main([*map(str, arguments), "1.5"]) == 0
    assert "Drawn with a guidance of 1.5" in (model / "README.md").read_text()
    own, asked = quiet_pipeline(model), quiet_pipeline(model)
    own.load_lora("edit")
    asked.load_lora(adapted / "lora")
    assert (own.config.default_guidance, asked.config.default_guidance) == (1.5, 3.0)
    scale = {"guidance_scale": 1.5}
    torch.testing.assert_close(draw(own), draw(asked, **scale), rtol=0, atol=0.02)  # kept in bfloat16
    torch.testing.assert_close(draw(own), draw(own, **scale), rtol=0, atol=0)
    assert drawing_defaults(model) == DrawingDefaults()
    assert drawing_defaults(model, ["edit", adapted / "lora"]) == DrawingDefaults(guidance=1.5)
    for damaged in (
        "{",
        "[]",
        "{}",
        '{"guidance": true}',
        '{"guidance": -1}',
        '{"guidance": NaN}',
        '{"guidance": "3"}',
    ):
        (model / "lora" / "edit" / "drawing.json").write_text(damaged)
        assert run("generate", "a red star", "--model", model, "--lora", "edit", "--out", tmp_path / "x.png") == 2
        assert "drawing.json is damaged" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_a_server_draws_with_its_adapters(adapted: Path, model_folder: Path, monkeypatch):
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    from instruct_imagen.serving import server
    from instruct_imagen.serving.metrics import Metrics
    from instruct_imagen.serving.settings import ServerSettings

    served, plain, pipelines = str(adapted / "lora"), quiet_pipeline(model_folder), []
    stages_of = server.stages_of
    monkeypatch.setattr(
        server, "stages_of", lambda pipeline, exact: stages_of(pipelines.append(pipeline) or pipeline, exact)
    )
    settings = ServerSettings(str(model_folder), adapters=((served, 1.0),))
    engine, _ = server.local_engine(settings, Metrics())
    engine.close()
    assert (draw(pipelines[0]) - draw(plain)).abs().max() > 1e-3
    assert settings.made_with == f"{model_folder.name} + run/lora"


def test_the_adapters_of_the_command_line(tmp_path: Path):
    odd = tmp_path / "rank=4"
    odd.mkdir()
    assert adapter("lora") == ("lora", 1.0)
    assert adapter("lora=0.5") == ("lora", 0.5)
    assert adapter(str(odd)) == (str(odd), 1.0)
    assert adapter(f"{odd}=-1") == (str(odd), -1.0)
    for strength in ("strong", "nan", "inf", ""):
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{strength}' is no strength"):
            adapter(f"lora={strength}")
