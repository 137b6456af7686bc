"""The processes of a run, started by `torchrun` or `accelerate launch`, or one alone: what they share and agree on.

Every process renders its own examples and takes its own part of each batch. With `ddp` all of them hold the whole
network and add up their gradients. With `fsdp` (FSDP2) each holds a part of every weight, gradient, average and
optimizer moment; a layer's weights are gathered while it computes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers.models.t5.modeling_t5 import T5Block

from ..errors import UserError
from ..precision import fast_bfloat16
from ..presets import ExecutionConfig
from ..unet import InstructUNet
from .trackers import check_tracker

T = TypeVar("T")


class ExecutionError(UserError):
    """A way of running that cannot be had as asked."""


class Processes:
    """This process among those of the run.

    Args:
        execution: precision, and how the network is spread.
        out: where trackers write.

    Attributes:
        accelerator: of accelerate: the launch, the device, trackers.
        device: of this process.
        count, rank: how many processes there are, and which this is.
        is_main: whether it is the one that writes files.
        uses_bfloat16: whether matrices are multiplied in bfloat16.

    Raises:
        ExecutionError: a launcher asks for what is not supported.
    """

    def __init__(self, execution: ExecutionConfig, out: Path):
        check_tracker(execution.tracker)
        self.sharded = _read_launcher() or execution.parallel == "fsdp"
        has_device = torch.accelerator.is_available()
        device = torch.accelerator.current_accelerator() if has_device else None
        fast = execution.precision == "auto" and fast_bfloat16(device or "cpu")
        self.uses_bfloat16 = fast or execution.precision == "bfloat16"
        self.accelerator = Accelerator(
            cpu=not has_device,  # without it accelerate takes processes on CPUs for as many runs
            mixed_precision="no",  # of all Accelerators of a process it would have to be the same
            log_with=execution.tracker,
            project_dir=str(out),
        )
        self.device = self.accelerator.device
        torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for every shape, and batches have many
        self.count, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        self.is_main = self.accelerator.is_main_process
        self.sharded = self.sharded and self.count > 1

    def autocast(self) -> torch.autocast:
        """Mixed precision as the run asks for it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.uses_bfloat16)

    def wait(self) -> None:
        """Returns when all have come here."""
        self.accelerator.wait_for_everyone()

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        """Of each flag, whether some process has raised it: the same answer in all of them."""
        if self.count == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in raised.tolist())

    def gathered(self, value: T) -> list[T]:
        """A value of every process, in order of rank; small ones only."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def take_from_main(self, module: nn.Module) -> None:
        """The weights become those of the main process: what each has computed for itself may differ by rounding."""
        if self.count > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)

    def spread(self, module: nn.Module, whole: Collection[nn.Module] = ()) -> nn.Module:
        """The module on this process's device, its gradients averaged over all processes.

        Args:
            module: its children are networks; an earlier stage may have spread them already.
            whole: networks among them that every process keeps, although the others are sharded.
        """
        if self.sharded:
            for network in module.children():
                if network in whole:
                    network.to(self.device)
                elif not isinstance(network, FSDPModule):
                    self._shard(network)
            return module
        module.to(self.device)
        if self.count == 1:
            return module
        devices = None if self.device.type == "cpu" else [self.device]
        # A stage or a batch without references leaves the context layers without gradients.
        return DistributedDataParallel(module, device_ids=devices, find_unused_parameters=True)

    def _shard(self, network: nn.Module) -> None:
        """Shards a network in units that are gathered one after the other: blocks, projections, and the rest."""
        # It warns of what nothing here does: changing a layer's output in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
        mesh = init_device_mesh(self.device.type, (self.count,))
        for unit in _units(network):
            fully_shard(unit, mesh=mesh)
        # By default the outermost layers stay gathered after a forward pass without gradients, and the moving average
        # that a report puts into the shares would not reach them.
        fully_shard(network, mesh=mesh, reshard_after_forward=True)
        if isinstance(network, InstructUNet):
            for method in ("encode_context", "project"):  # beside `forward`, they compute with the network's weights
                register_fsdp_forward_method(network, method)

    @contextmanager
    def accumulating(self, module: nn.Module, last: bool) -> Iterator[None]:
        """Inside, gradients only add up in this process, until the last part of a batch."""
        with ExitStack() as stack:
            if isinstance(module, DistributedDataParallel) and not last:
                stack.enter_context(module.no_sync())
            for network in module.children():
                if isinstance(network, FSDPModule):
                    network.set_requires_gradient_sync(last)
            yield


def _units(network: nn.Module) -> Iterator[nn.Module]:
    """What is gathered as one, inner modules first.

    The projections of an attention layer are units of their own, because those of text and context are used before
    and outside the layer (`InstructUNet.project`).
    """
    for module in network.modules():
        if isinstance(module, Attention):
            yield from _projections(module)
        elif isinstance(module, ResnetBlock2D | T5Block):
            yield module


def _projections(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.Linear) or hasattr(child, "base_layer"):  # an adapted layer of peft
            yield child
        else:
            yield from _projections(child)


def plain(module: nn.Module) -> nn.Module:
    """The module itself, without what spreads it."""
    return module.module if isinstance(module, DistributedDataParallel) else module


def whole_state(module: nn.Module, dtype: torch.dtype | None = None, only: str = "") -> dict[str, torch.Tensor]:
    """A copy of a module's state on the CPU, for export; every process must call it.

    Sharded tensors are gathered one at a time, so no device ever holds more than one whole.

    Args:
        module: whose state.
        dtype: of the copies of floating-point tensors.
        only: names that contain this.
    """
    state = {}
    for name, tensor in module.state_dict().items():
        if only not in name:
            continue
        gathered = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        state[name] = gathered.detach().to("cpu", dtype if gathered.is_floating_point() else None, copy=True)
    return state


def _read_launcher() -> bool:
    """Whether `accelerate launch` asks for sharding; from here on that is this module's affair, not accelerate's.

    Raises:
        ExecutionError: for FSDP's first version or for its offloading.
    """
    if os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return False
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ExecutionError("accelerate launch asks for the first version of FSDP; add --fsdp_version 2")
    if os.environ.get("FSDP_OFFLOAD_PARAMS", "false").lower() == "true":
        raise ExecutionError("parameters are not offloaded in training; leave out --fsdp_offload_params")
    return True
