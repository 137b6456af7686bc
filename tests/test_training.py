"""Training: the objective, exact resumption, checkpoints, and what the data may contain."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel
from PIL import Image
from safetensors.torch import load_file
from training_runs import assert_same_tensors, newest_tensors

from instruct_imagen.conditioning import Prompt
from instruct_imagen.data.example import Example
from instruct_imagen.data.mixture import stage_source
from instruct_imagen.data.recipe import TABLE_1, DataRecipe
from instruct_imagen.data.templates import TRAINING_TASKS
from instruct_imagen.data.world_tasks import WorldTasks
from instruct_imagen.denoising import clean_from_prediction
from instruct_imagen.errors import UserError
from instruct_imagen.instruction import MAX_MARKERS, Instruction, markers_in
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.presets import PRESETS, Preset, StageConfig, get_preset
from instruct_imagen.text import load_tokenizer
from instruct_imagen.training.adafactor import Adafactor
from instruct_imagen.training.average import MovingAverage
from instruct_imagen.training.beginning import BeginningError
from instruct_imagen.training.checkpoint import TrainingState, list_checkpoints, read_position
from instruct_imagen.training.loader import (
    Collate,
    PositionSampler,
    StageDataset,
    draw_numbers,
    prepare,
    shifted,
    subject_mask,
)
from instruct_imagen.training.objective import denoising_loss, subject_weights, v_weights
from instruct_imagen.training.optimizers import OptimizerError, make_optimizer, orthogonalized
from instruct_imagen.training.trainer import Trainer, TrainingError, learning_rate_at
from instruct_imagen.world import SceneSampler, glyph_split, style_split

# Of every step of pre-training, stage 1 and stage 2, four each.
GOLDEN_LOSSES = (
    1.40987,
    1.35358,
    0.84299,
    1.37469,
    0.95947,
    1.09856,
    1.04891,
    1.13762,
    1.08013,
    1.01678,
    0.64449,
    0.9035,
)
GOLDEN_MUON_LOSSES = (1.40987, 1.37627, 0.87812, 1.05499, 1.17582, 1.15621, 1.18441, 1.16091, 0.76754)


def short_preset() -> Preset:
    preset = get_preset("debug")
    stages = tuple(replace(stage, steps=3, optimizer="muon") for stage in preset.stages)
    return replace(preset, stages=stages)


@pytest.fixture
def run_folder(tokenizer_folder: Path, tmp_path: Path) -> Path:
    """A run folder that has its tokenizer already, which is what takes longest in `Trainer.__init__`."""
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(tokenizer_folder, folder / "tokenizer")
    return folder


SCHEDULE = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")


def noisy_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(5, 3, 4, 4, generator=generator) for _ in range(2))
    timesteps = torch.tensor([50, 200, 500, 800, 990])
    return clean, noise, timesteps, SCHEDULE.add_noise(clean, noise, timesteps)


def schedule_for(kind: str) -> DDPMScheduler:
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type=kind)


@pytest.mark.parametrize("kind", ["sample", "v_prediction", "epsilon"])
def test_the_true_prediction_gives_the_clean_picture_and_no_loss(kind: str):
    clean, noise, timesteps, noisy = noisy_batch()
    scheduler = schedule_for(kind)
    truth = {"sample": clean, "epsilon": noise, "v_prediction": SCHEDULE.get_velocity(clean, noise, timesteps)}[kind]
    recovered = clean_from_prediction(truth, noisy, timesteps, scheduler)
    torch.testing.assert_close(recovered[:4], clean[:4], rtol=1e-3, atol=1e-3)
    loss = denoising_loss(truth, clean, noise, noisy, timesteps, scheduler, 20.0)
    torch.testing.assert_close(loss, torch.zeros(5), rtol=0, atol=1e-6)


def test_predicting_the_clean_picture_has_the_loss_of_predicting_v():
    clean, noise, timesteps, noisy = noisy_batch()
    wrong = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    by_clean = denoising_loss(wrong, clean, noise, noisy, timesteps, schedule_for("sample"), 1e9)
    alpha_bar = SCHEDULE.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    wrong_v = (alpha_bar.sqrt() * noisy - wrong) / (1 - alpha_bar).sqrt()
    by_v = denoising_loss(wrong_v, clean, noise, noisy, timesteps, SCHEDULE, 1e9)
    torch.testing.assert_close(by_clean, by_v, rtol=1e-3, atol=1e-5)
    assert v_weights(torch.tensor([0, 999]), SCHEDULE, 20.0).tolist() == pytest.approx([20.0, 1.0], rel=1e-3)


def test_errors_inside_subjects_count_more_where_they_can_be_seen():
    clean, noise, timesteps, noisy = noisy_batch()
    subjects = torch.zeros(len(clean), *clean.shape[-2:], dtype=torch.bool)
    subjects[:, :4] = True
    weights = subject_weights(subjects, timesteps, SCHEDULE, 4.0)
    alpha_bar = SCHEDULE.alphas_cumprod[timesteps]
    torch.testing.assert_close(weights[:, 0, 0, 0], 1 + 3 * alpha_bar)
    assert (weights[:, :, 4:] == 1).all()
    wrong = clean.clone()
    wrong[:, :, :4] += 0.1
    args = (clean, noise, noisy, timesteps, schedule_for("sample"), 6.0)
    torch.testing.assert_close(
        denoising_loss(wrong, *args, weights), denoising_loss(wrong, *args) * (1 + 3 * alpha_bar), rtol=1e-4, atol=1e-6
    )


def test_a_known_mask_reaches_the_loss_and_an_unknown_one_changes_nothing():
    assert subject_mask(None, 8).sum() == 0
    assert subject_mask(np.tri(16, dtype=bool), 8).float().mean() == pytest.approx(0.5, abs=0.1)


def test_learning_rate_warms_up_stays_and_decays():
    stage = StageConfig("stage2", steps=100, warmup_steps=10, decay_steps=20, learning_rate=1.0)
    rates = [learning_rate_at(step, stage) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:80] == [1.0] * 70
    assert rates[90] == pytest.approx(0.5)
    assert min(rates) > 0
    assert learning_rate_at(40, stage, optimizer_from=40) == rates[0]


@pytest.mark.parametrize("name", ["muon", "adamw", "adafactor"])
def test_optimizer_state_survives_packing(name: str):
    def train(steps: int, restore_at: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        layer = torch.nn.Linear(6, 5)
        named = {f"unet.{n}": p for n, p in layer.named_parameters()}
        stage = replace(PRESETS["debug"].stages[0], optimizer=name)
        optimizer, average = make_optimizer(stage, named.items()), MovingAverage(named.items(), 0.9)
        for step in range(steps):
            if step == restore_at:
                old = TrainingState(named, average, optimizer)
                moments = {n: t for n, t in old.tensors().items() if n.startswith("optimizer.")}
                settings = json.loads(json.dumps(old.settings()))
                optimizer = make_optimizer(stage, named.items())
                new = TrainingState(named, average, optimizer)
                new.restore_optimizer(moments | settings["plain"], settings["groups"])
            layer(torch.randn(3, 6, generator=torch.Generator().manual_seed(step))).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return layer.weight.detach()

    assert torch.equal(train(6, None), train(6, 3))


@pytest.mark.parametrize("name", ["muon", "adafactor"])
def test_moments_are_loaded_to_where_the_optimizer_wants_them(name: str):
    """With their parameters; the number of steps where the kernel reads it. The meta device stands for a GPU."""
    named = {f"unet.{n}": p for n, p in torch.nn.Linear(6, 5, device="meta").named_parameters()}
    stage = replace(PRESETS["debug"].stages[0], optimizer=name)
    state = TrainingState(named, MovingAverage(named.items(), 0.9), make_optimizer(stage, named.items()))
    shapes = {"exp_avg": (5, 6), "rows": (5,), "step": ()}
    stored = {f"optimizer.unet.weight.{key}": torch.Size(shape) for key, shape in shapes.items()}
    room = state.room(stored, dict.fromkeys(stored, torch.float32))
    places = {key.rsplit(".", 1)[1]: room[key].device.type for key in stored}
    assert places == {"exp_avg": "meta", "rows": "meta", "step": "meta" if name == "muon" else "cpu"}


def test_adafactor_is_the_published_one():
    """Against transformers' implementation, on a matrix and a vector, with clipped updates and weight decay."""
    parameters = {kind: [torch.nn.Parameter(torch.ones(3, 5)), torch.nn.Parameter(torch.ones(4))] for kind in "ab"}
    fixed = {"scale_parameter": False, "relative_step": False, "warmup_init": False}
    theirs = transformers.Adafactor(parameters["a"], lr=0.1, beta1=0.9, weight_decay=0.01, **fixed)
    ours = Adafactor(parameters["b"], lr=0.1, beta1=0.9, weight_decay=0.01)
    generator = torch.Generator().manual_seed(0)
    for size in (1.0, 30.0, 1.0, 0.1):
        for a, b in zip(*parameters.values(), strict=True):
            a.grad = size * torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        theirs.step()
        ours.step()
        for a, b in zip(*parameters.values(), strict=True):
            torch.testing.assert_close(a, b)


def test_adafactor_keeps_little_of_a_convolution():
    weight = torch.nn.Parameter(torch.ones(8, 6, 3, 3))
    optimizer = Adafactor([weight], lr=0.1)
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    assert {n: v.numel() for n, v in optimizer.state[weight].items()} == {
        "step": 1,
        "exp_avg": weight.numel(),
        "rows": 8,
        "columns": 54,
    }


def test_the_8_bit_optimizer_needs_a_library_and_a_gpu(monkeypatch: pytest.MonkeyPatch):
    stage = replace(PRESETS["debug"].stages[0], optimizer="adamw8bit")
    named = [("unet.weight", torch.nn.Parameter(torch.ones(2, 2)))]
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(OptimizerError, match=r"install instruct-imagen\[8bit\]"):
        make_optimizer(stage, named)
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace())
    with pytest.raises(OptimizerError, match="needs a GPU"):
        make_optimizer(stage, named)


def test_a_tracker_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"install instruct-imagen\[wandb\]"):
        Trainer(get_preset("debug", ["execution.tracker=wandb"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_average_is_that_of_diffusers():
    torch.manual_seed(0)
    layer, frozen = torch.nn.Linear(3, 2), torch.nn.Linear(2, 2).requires_grad_(False)
    named = [*layer.named_parameters("a"), *frozen.named_parameters("b")]
    theirs, ours = EMAModel([p for _, p in named], decay=0.5, foreach=True), MovingAverage(named, 0.5)
    for _ in range(12):
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(torch.randn_like(parameter))
        theirs.step([p for _, p in named])
        ours.update()
    expected = {name: mean for (name, _), mean in zip(named, theirs.shadow_params, strict=True) if name[0] == "a"}
    assert_same_tensors(expected, ours.tensors)
    before = layer.weight.detach().clone()
    with ours.applied():
        assert torch.equal(layer.weight, expected["a.weight"])
    assert torch.equal(layer.weight, before)
    assert torch.equal(ours.tensors["a.weight"], expected["a.weight"])


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_orthogonalized_gives_the_orthogonal_factor(shape: tuple[int, int]):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalized(matrix)
    singular = torch.linalg.svdvals(found)
    assert singular.min() > 0.6
    assert singular.max() < 1.3
    assert torch.nn.functional.cosine_similarity(found.flatten(), (u @ v).flatten(), dim=0) > 0.97


def test_matrices_of_one_shape_are_orthogonalized_together_as_alone():
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 6, 6), (2, 4, 15), (2, 15, 4)):
        matrices = torch.randn(shape, generator=generator)
        alone = torch.stack([orthogonalized(matrix) for matrix in matrices])
        torch.testing.assert_close(orthogonalized(matrices), alone, rtol=0, atol=1e-2)


def test_resuming_continues_exactly_over_all_stages(run_folder: Path, tokenizer_folder: Path, tmp_path: Path):
    import shutil

    preset = short_preset()
    done = Trainer(preset, run_folder, seed=3).run()
    assert (done.stage_index, done.total_steps) == (3, 9)
    pieces = tmp_path / "pieces"
    shutil.copytree(tokenizer_folder, pieces / "tokenizer")
    for index, steps in enumerate((2, 3, 1, 3)):
        Trainer(preset, pieces, seed=3, resume=index > 0).run(max_steps=steps)
    assert_same_tensors(newest_tensors(run_folder), newest_tensors(pieces))
    with pytest.raises(TrainingError, match="already holds"):
        Trainer(preset, pieces, seed=3)
    exported = InstructImagenPipeline.from_pretrained(run_folder / "pipeline")
    exported.set_progress_bar_config(disable=True)
    assert len(exported(Instruction("a red star"), 2).images) == 1
    assert sorted((run_folder / "samples").glob("*.png"))


def test_a_run_goes_on_from_an_exported_model(run_folder: Path, tmp_path: Path):
    preset = short_preset()
    Trainer(preset, run_folder, seed=3).run(max_steps=5)
    model, further = run_folder / "pipeline", tmp_path / "further"
    trainer = Trainer(preset, further, init=model)
    trained = load_file(model / "unet" / "diffusion_pytorch_model.safetensors")
    for name, value in trainer.parts.unet.state_dict().items():
        assert torch.equal(value, trained[name].float()), name
    position = trainer.position
    assert (position.stage_index, position.step, position.total_steps, position.seed) == (1, 2, 5, 3)
    assert position.optimizer_from == 2
    assert trainer.run(max_steps=3).total_steps == 8
    assert read_position(list_checkpoints(further / "checkpoints")[0])[0].optimizer_from == 0  # stage 2 has begun
    assert Trainer(preset, further, resume=True, init=model).run().total_steps == 9  # its own checkpoints come first
    wider = replace(preset, model=replace(preset.model, head_dim=8))
    with pytest.raises(BeginningError, match="not a model of preset"):
        Trainer(wider, tmp_path / "other", init=model)
    (model / "training.json").write_text("{")
    with pytest.raises(BeginningError, match="does not say where its training stood"):
        Trainer(preset, tmp_path / "other", init=model)


def test_a_complete_model_goes_on_where_its_preset_asks_for_more_steps(run_folder: Path, tmp_path: Path):
    preset = short_preset()
    Trainer(preset, run_folder, seed=3).run()
    longer = replace(preset, stages=(*preset.stages[:2], replace(preset.stages[2], steps=5)))
    trainer = Trainer(longer, tmp_path / "further", init=run_folder / "pipeline")
    assert (trainer.position.stage_index, trainer.position.step, trainer.position.optimizer_from) == (2, 3, 3)
    assert trainer.run().total_steps == 11


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_writes_a_checkpoint(run_folder: Path, number: signal.Signals):
    command = [sys.executable, "-m", "instruct_imagen.cli", "train", "--preset", "debug", "--out", str(run_folder)]
    process = subprocess.Popen([*command, "--set", "stages.0.steps=100000"], stderr=subprocess.PIPE, text=True)
    logs = run_folder / "logs"
    deadline = time.monotonic() + 120
    while not list(logs.glob("events*")) and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(3)
    os.kill(process.pid, number)
    assert process.wait(timeout=120) == 0
    position, _ = read_position(list_checkpoints(run_folder / "checkpoints")[0])
    assert position.stage_index == 0
    assert position.total_steps > 0


def losses_of(preset: Preset, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Trains a preset in float32 and gives the loss of every step."""
    losses: list[float] = []
    original = Trainer._step

    def record(self, batches):
        values = original(self, batches)
        losses.append(values.mean().item())
        return values

    monkeypatch.setattr(Trainer, "_step", record)
    monkeypatch.setattr(Trainer, "_report", lambda self: None)
    Trainer(replace(preset, execution=replace(preset.execution, precision="float32")), folder, seed=0).run()
    return losses


@pytest.mark.parametrize("options", [{}, {"micro_batch": 2, "checkpoint_activations": True, "text_cache": "memory"}])
def test_golden_losses_of_every_step_of_every_stage(options, run_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Guards refactorings. A change that means to alter training changes these.

    How a step is computed, in parts or with less memory, alters nothing.
    """
    preset = PRESETS["debug"]
    preset = replace(preset, execution=replace(preset.execution, **options))
    assert losses_of(preset, run_folder, monkeypatch) == pytest.approx(GOLDEN_LOSSES, rel=1e-3)


def test_golden_losses_with_muon(run_folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert losses_of(short_preset(), run_folder, monkeypatch) == pytest.approx(GOLDEN_MUON_LOSSES, rel=1e-3)


def test_positions_are_split_over_processes_without_overlap():
    whole = [index for batch in PositionSampler(2, 5, 8) for index in batch]
    shares = [list(PositionSampler(2, 5, 8, rank, 2)) for rank in range(2)]
    assert sorted(whole) == list(range(16, 40))
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [
        list(range(16, 24)),
        list(range(24, 32)),
        list(range(32, 40)),
    ]
    with pytest.raises(ValueError, match="does not divide"):
        PositionSampler(0, 1, 8, 0, 3)


def test_examples_depend_on_their_index_alone(builtin_pack, tokenizer_folder: Path):
    stage = PRESETS["debug"].stages[2]
    model = PRESETS["debug"].model
    collate = Collate(load_tokenizer(tokenizer_folder), model)
    first, second = (
        StageDataset(stage_source(DataRecipe(), "stage2", builtin_pack, model.size_px, 5), model, stage, seed=5)
        for _ in range(2)
    )
    _ = [first[index] for index in range(6)]
    a, b = collate([first[9], first[4]]), collate([second[9], second[4]])
    assert torch.equal(a.targets, b.targets)
    assert torch.equal(a.noise, b.noise)
    assert torch.equal(a.prompts.text_ids, b.prompts.text_ids)
    assert not torch.equal(a.targets[0], a.targets[1])


def test_shifted_levels_keep_their_ends_and_order():
    levels = np.linspace(0, 1, 101)
    assert np.array_equal(shifted(levels, 1.0), levels)
    moved = shifted(levels, 2.0)
    assert (moved[0], moved[50], moved[-1]) == pytest.approx((0, 2 / 3, 1))
    assert (np.diff(moved) > 0).all()
    assert shifted(moved, 0.5) == pytest.approx(levels)


def test_conditions_are_dropped_as_often_as_the_paper_says(builtin_pack):
    stage = replace(PRESETS["debug"].stages[2], noise_levels=1)
    model = replace(PRESETS["debug"].model, size_px=32)

    class Constant:
        def __init__(self):
            tasks = WorldTasks(builtin_pack, "train", 32)
            self.example = tasks.build("subject", np.random.default_rng(0), "one").example

        def __getitem__(self, index: int):
            return self.example

    dataset = StageDataset(Constant(), model, stage, seed=0)
    prompts = [dataset[index].prompt for index in range(2000)]
    no_text = np.mean([not p.text for p in prompts])
    no_context = np.mean([not p.references for p in prompts])
    only_text = np.mean([not p.text and bool(p.references) for p in prompts])
    assert no_text == pytest.approx(0.1, abs=0.02)
    assert no_context == pytest.approx(0.2, abs=0.025)
    assert only_text == 0


def test_marker_numbers_say_nothing_of_what_a_picture_is_for(builtin_pack):
    style, content = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    instruction = Instruction.build("Paint [ref#2] like [ref#1], yes, like [ref#1].", [(style, "art"), (content, "")])
    model = replace(PRESETS["debug"].model, size_px=8)
    stage = replace(PRESETS["debug"].stages[2], drop_both=0.0, drop_context=0.0)
    example = Example(instruction, content, "style_transfer", "one")

    def prepared(seed: int, any_markers: bool):
        return prepare(example, model, replace(stage, any_markers=any_markers), np.random.default_rng(seed))

    pairs = []
    for seed in range(400):
        given, drawn = prepared(seed, any_markers=False), prepared(seed, any_markers=True)
        assert given.prompt == Prompt.of(instruction)
        assert torch.equal(given.noise, drawn.noise)
        assert torch.equal(given.levels, drawn.levels)
        (first, red), (second, blue) = drawn.prompt.references
        numbers = markers_in(first + second)
        assert (first, second) == (f"[ref#{numbers[0]}] art", f"[ref#{numbers[1]}]")
        assert drawn.prompt.text == "Paint [ref#{1}] like [ref#{0}], yes, like [ref#{0}].".format(*numbers)
        assert (red.tobytes(), blue.tobytes()) == (style.tobytes(), content.tobytes())
        pairs.append(numbers)
    assert np.mean([a < b for a, b in pairs]) == pytest.approx(0.5, abs=0.1)
    assert {number for pair in pairs for number in pair} == set(range(1, MAX_MARKERS + 1))


@pytest.mark.parametrize("num_markers", range(MAX_MARKERS + 1))
def test_drawn_numbers_are_distinct_and_markers(num_markers: int):
    drawn = draw_numbers(num_markers, np.random.default_rng(num_markers))
    assert list(drawn) == list(range(1, num_markers + 1))
    assert len(set(drawn.values())) == num_markers
    assert set(drawn.values()) <= set(range(1, MAX_MARKERS + 1))


def test_stage_2_draws_the_ratios_of_table_1(builtin_pack):
    assert tuple(entry.name for entry in TABLE_1) == TRAINING_TASKS
    assert sum(entry.ratio for entry in TABLE_1) == pytest.approx(1)
    source = stage_source(DataRecipe(), "stage2", builtin_pack, 32, seed=0)
    drawn = [source[index].task for index in range(1000)]
    assert {entry.name: drawn.count(entry.name) / 1000 for entry in TABLE_1} == {e.name: e.ratio for e in TABLE_1}


@pytest.mark.parametrize("stage", ["pretrain", "stage1", "stage2", "super_resolution"])
def test_nothing_held_out_reaches_training(font_pack, stage, monkeypatch: pytest.MonkeyPatch):
    """Watches every scene that a stage renders, references included, and every word of its instructions."""
    import instruct_imagen.data.world_tasks as module

    scenes = []
    original = module.render
    monkeypatch.setattr(module, "render", lambda scene, *rest: scenes.append(scene) or original(scene, *rest))
    source = stage_source(DataRecipe(), stage, font_pack, 32, seed=1)
    examples = [source[index] for index in range(400)]
    assert len(scenes) >= len(examples)
    assert all(glyph_split(glyph) == "train" for scene in scenes for glyph in scene.glyphs)
    assert all(style_split(scene.style.name) == "train" for scene in scenes)
    held_out = [g.name for g in font_pack if glyph_split(g.key) == "held_out" and len(g.name) > 5]
    trained = " ".join(w for g in font_pack if glyph_split(g.key) == "train" for w in (g.name, *g.synonyms))
    unmistakable = [name for name in held_out if name not in trained]
    texts = " ".join(example.instruction.text for example in examples)
    assert not [name for name in unmistakable if f" {name} " in texts]


def test_the_training_sampler_refuses_what_is_held_out(font_pack):
    held_out = next(key for key in font_pack.keys if glyph_split(key) == "held_out")
    with pytest.raises(ValueError, match="held out"):
        SceneSampler(font_pack, "train").sample(np.random.default_rng(0), glyphs=[held_out])
