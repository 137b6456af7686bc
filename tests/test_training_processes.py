"""Training on several processes: the same as on one, and all of them together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.utils import set_seed
from torch.distributed.fsdp import FSDPModule
from training_runs import (
    TIMEOUT_S,
    Run,
    assert_same_tensors,
    new_folder,
    newest_tensors,
    seen_in,
    start,
    stepwise_preset,
)

from instruct_imagen.data.mixture import stage_source
from instruct_imagen.instruction import Instruction
from instruct_imagen.model import ModelParts, build_model
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.presets import PRESETS, ExecutionConfig, get_preset
from instruct_imagen.text import load_tokenizer
from instruct_imagen.training.checkpoint import list_checkpoints, read_position
from instruct_imagen.training.loader import BatchError, Collate, PositionSampler, StageDataset
from instruct_imagen.training.objective import TrainingModule, with_blank_reference
from instruct_imagen.training.processes import ExecutionError, Processes
from instruct_imagen.training.trainer import Trainer, TrainingError

DDP, FSDP = "execution.parallel=ddp", "execution.parallel=fsdp"
# Sums over the examples of a batch are taken in another order: the losses of a step agree to a ten-thousandth, and what
# the weights have learned to a hundredth (optimizers make much of gradients that are almost zero).
LOSS_TOLERANCE, LEARNED_TOLERANCE = 1e-4, 1e-2


@pytest.mark.parametrize(
    ("num_processes", "overrides"),
    [
        (2, [DDP, "stages.*.optimizer=muon", "execution.micro_batch=1"]),
        (2, [FSDP, "stages.*.optimizer=muon"]),
        pytest.param(2, [FSDP, "stages.*.optimizer=adafactor"], marks=pytest.mark.slow),
        pytest.param(2, [FSDP, "stages.*.optimizer=adamw", "execution.micro_batch=1"], marks=pytest.mark.slow),
        pytest.param(4, [FSDP, "execution.checkpoint_activations=true"], marks=pytest.mark.slow),
        pytest.param(4, [DDP, "stages.*.optimizer=adafactor"], marks=pytest.mark.slow),
    ],
)
def test_several_processes_learn_what_one_learns(num_processes: int, overrides, tokenizer_folder: Path, tmp_path: Path):
    """The same global batch, with and without references: at 4 processes each has one example, often without any."""
    steps = (1, 1, 2)
    one, several = (new_folder(tokenizer_folder, tmp_path / name) for name in ("one", "several"))
    alone = [override for override in overrides if not override.startswith("execution")]
    assert start(Run(stepwise_preset(steps, *alone), one)) == [0]
    assert start(Run(stepwise_preset(steps, *overrides), several), num_processes) == [0] * num_processes
    expected, found = seen_in(one), seen_in(several)
    assert expected.keys() == found.keys()
    for step in expected:
        assert found[step].marks == expected[step].marks
        assert found[step].loss == pytest.approx(expected[step].loss, rel=LOSS_TOLERANCE)
    first, second = newest_tensors(one), newest_tensors(several)
    assert first.keys() == second.keys()
    begun = weights_at_the_beginning(tokenizer_folder)
    # A bias of keys shifts the scores of all keys alike; its gradient is nothing but rounding.
    begun = {name: weight for name, weight in begun.items() if not name.endswith("to_k_context.bias")}
    learned, apart = (
        torch.cat([(a[f"weights.{name}"] - b[name]).flatten() for name in begun]).norm()
        for a, b in ((first, begun), (second, {name: first[f"weights.{name}"] for name in begun}))
    )
    assert learned > 0.01
    assert apart / learned < LEARNED_TOLERANCE


def test_a_text_encoder_that_learns_first_is_that_of_one_process(tokenizer_folder: Path, tmp_path: Path):
    preset = stepwise_preset((1, 1, 1), FSDP, "text_steps=2", "stages.0.train_text_encoder=false")
    one, two = (new_folder(tokenizer_folder, tmp_path / name) for name in ("one", "two"))
    for folder, number in ((one, 1), (two, 2)):
        assert start(Run(preset, folder, max_steps=1), number) == [0] * number
    first, second, begun = newest_tensors(one), newest_tensors(two), weights_at_the_beginning(tokenizer_folder)
    for name in (name for name in begun if name.startswith("text_encoder.")):
        assert not torch.equal(first[f"weights.{name}"], begun[name]), name
        torch.testing.assert_close(second[f"weights.{name}"], first[f"weights.{name}"], rtol=0, atol=1e-5)


def weights_at_the_beginning(tokenizer_folder: Path) -> dict[str, torch.Tensor]:
    """Those of a run with the seed of `Run`."""
    set_seed(3)
    built = build_model(PRESETS["debug"].model, load_tokenizer(tokenizer_folder))
    networks = (("unet", built.unet), ("text_encoder", built.text_encoder))
    return {f"{prefix}.{name}": p.detach() for prefix, net in networks for name, p in net.named_parameters()}


@pytest.mark.parametrize("parallel", [pytest.param(DDP, marks=pytest.mark.slow), FSDP])
def test_reports_and_checkpoints_of_several_processes(parallel: str, tokenizer_folder: Path, tmp_path: Path):
    """Reports are written once, the exported model is whole; of a checkpoint each process writes its share."""
    folder = new_folder(tokenizer_folder, tmp_path / "run")
    assert start(Run(stepwise_preset((1, 1, 1), parallel), folder, max_steps=1, report=True), 2) == [0, 0]
    assert len((folder / "validation.jsonl").read_text().splitlines()) == 1
    assert len(list((folder / "samples").glob("*.png"))) == 1
    tensors = newest_tensors(folder)
    sizes = [f.stat().st_size for f in (list_checkpoints(folder / "checkpoints")[0] / "tensors").iterdir()]
    total = sum(tensor.nbytes for tensor in tensors.values())
    assert len(sizes) == 2
    assert max(sizes) < 0.7 * total  # the names take their place beside so small a model
    model = InstructImagenPipeline.from_pretrained(folder / "pipeline")
    assert type(model.unet).__name__ == "InstructUNet"
    for name, tensor in model.unet.state_dict().items():
        assert torch.equal(tensor, tensors[f"average.unet.{name}"].bfloat16().float()), name
    model.set_progress_bar_config(disable=True)
    assert len(model(Instruction("a red star"), 2).images) == 1


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [DDP, FSDP])
def test_reports_in_between_change_nothing(parallel: str, tokenizer_folder: Path, tmp_path: Path):
    """The weights hold their average meanwhile, and their own values again afterwards, also where they are sharded."""
    watched, unwatched = (new_folder(tokenizer_folder, tmp_path / name) for name in ("watched", "unwatched"))
    preset = stepwise_preset((2, 1, 1), parallel, "report_minutes=0", "stages.*.ema_decay=0.5")
    assert start(Run(preset, watched, report=True), 2) == [0, 0]
    assert start(Run(preset, unwatched), 2) == [0, 0]
    assert len((watched / "validation.jsonl").read_text().splitlines()) > 3
    assert seen_in(watched) == seen_in(unwatched)
    assert_same_tensors(newest_tensors(watched), newest_tensors(unwatched))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_one_process_stops_all_at_the_same_step(number: int, tokenizer_folder: Path, tmp_path: Path):
    folder = new_folder(tokenizer_folder, tmp_path / "run")
    run = Run(stepwise_preset((100_000, 1, 1)), folder, interrupt=(1, 2, number))
    assert start(run, 2) == [0, 0]
    logs = [(folder / f"seen-{rank}.txt").read_text().splitlines() for rank in range(2)]
    assert [len(log) for log in logs] == [2, 2]
    assert read_position(list_checkpoints(folder / "checkpoints")[0])[0].total_steps == 2


def batch_of(parts: ModelParts, pack, indices: list[int]):
    stage, model = PRESETS["debug"].stages[2], PRESETS["debug"].model
    dataset = StageDataset(stage_source(PRESETS["debug"].data, "stage2", pack, model.size_px, 5), model, stage, seed=5)
    return Collate(parts.tokenizer, model)([dataset[index] for index in indices])


def test_a_blank_reference_changes_neither_losses_nor_gradients(parts: ModelParts, builtin_pack):
    stage = PRESETS["debug"].stages[2]
    module = TrainingModule(parts.unet, parts.text_encoder, parts.scheduler, stage)
    with_none = [i for i in range(40) if not len(batch_of(parts, builtin_pack, [i]).prompts.reference_rows)]
    batch = batch_of(parts, builtin_pack, with_none[:3])
    losses, gradients = [], []
    for each in (batch, with_blank_reference(batch)):
        loss = module(each)
        module.zero_grad(set_to_none=True)
        loss.mean().backward()
        losses.append(loss.detach())
        gradients.append({n: p.grad for n, p in module.named_parameters() if p.grad is not None})
    module.zero_grad(set_to_none=True)
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    further = gradients[1].keys() - gradients[0].keys()
    assert any("to_k_context" in name for name in further)
    assert all(not gradients[1][name].any() for name in further)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5)


def test_micro_batches_of_a_process():
    batches = [list(PositionSampler(2, 4, 8, rank, 2, micro_batch=2)) for rank in range(2)]
    assert batches[0] == [[16, 17], [18, 19], [24, 25], [26, 27]]
    assert np.ravel(batches[1]).tolist() == [20, 21, 22, 23, 28, 29, 30, 31]
    sampler = PositionSampler(2, 4, 8, 0, 2, micro_batch=2)
    assert (len(sampler), sampler.per_step) == (4, 2)
    with pytest.raises(BatchError, match="micro-batches of 3"):
        PositionSampler(0, 1, 8, 0, 2, micro_batch=3)


def test_the_launchers_wishes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def processes(**environment: str) -> Processes:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Processes(ExecutionConfig(), tmp_path)

    with pytest.raises(ExecutionError, match="--fsdp_version 2"):
        processes(ACCELERATE_USE_FSDP="true")
    with pytest.raises(ExecutionError, match="leave out --fsdp_offload_params"):
        processes(ACCELERATE_USE_FSDP="true", FSDP_VERSION="2", FSDP_OFFLOAD_PARAMS="true")
    alone = processes(ACCELERATE_USE_FSDP="true", FSDP_OFFLOAD_PARAMS="false")
    assert (alone.count, alone.sharded, alone.is_main) == (1, False, True)  # nothing to share with
    network = torch.nn.Linear(2, 2)
    assert alone.spread(torch.nn.ModuleList([network]))[0] is network
    assert not isinstance(network, FSDPModule)


def test_texts_are_not_cached_where_a_sharded_encoder_learns(tokenizer_folder: Path, tmp_path: Path, monkeypatch):
    folder = new_folder(tokenizer_folder, tmp_path / "run")
    original = Processes.__init__

    def sharded(self, *arguments) -> None:
        original(self, *arguments)
        self.sharded = True

    monkeypatch.setattr(Processes, "__init__", sharded)
    with pytest.raises(TrainingError, match="texts are cached only where"):
        Trainer(get_preset("debug", [FSDP, "execution.text_cache=memory"]), folder)


LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--nproc-per-node", "2", "--standalone"],
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"],
}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launchers_start_all_and_signals_stop_all(launcher: str, number: int, tokenizer_folder: Path, tmp_path: Path):
    """Ctrl-C reaches the whole foreground group, the launcher and what it has started; SIGTERM the launcher alone."""
    folder = new_folder(tokenizer_folder, tmp_path / "run")
    train = ["-m", "instruct_imagen.cli", "train", "--preset", "debug", "--out", str(folder)]
    options = ["--set", "stages.0.steps=100000", "--set", "checkpoint_minutes=0.02"]
    command = [sys.executable, "-m", *LAUNCHERS[launcher], *train, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, start_new_session=True, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + TIMEOUT_S
    while not list_checkpoints(folder / "checkpoints") and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.5)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    kept = list_checkpoints(folder / "checkpoints")
    assert kept, errors
    assert len(list((kept[0] / "tensors").iterdir())) == 2  # two processes, one run
    assert not list((folder / "checkpoints").glob(".*")), errors
    assert "instruct_imagen/training" not in errors, errors  # only the launcher says that it was interrupted
