"""Where a model computes, and where bfloat16 pays.

A CPU without instructions for bfloat16 emulates it, up to a hundred times slower than float32.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers import DiffusionPipeline

from .errors import UserError

# Names in `torch.cpu.get_capabilities`: Intel and AMD, Intel's matrix unit, ARM.
_CPU_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")


def fast_bfloat16(device: torch.device | str) -> bool:
    """Whether `device` multiplies bfloat16 matrices at least as fast as float32 ones.

    On a CPU whose abilities this version of torch cannot tell (before 2.10) the answer is no.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    abilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(abilities.get(name, False) for name in _CPU_BFLOAT16)


def matrix_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 where it is fast, else float32."""
    return torch.bfloat16 if fast_bfloat16(device) else torch.float32


def autocast(device: torch.device | str) -> torch.autocast:
    """Mixed precision in bfloat16 where it is fast; elsewhere a context that changes nothing."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=fast_bfloat16(device))


class DeviceError(UserError):
    """A device that is not there, or cannot hold a model."""


def place(pipeline: DiffusionPipeline, device: str | None = None, offload: bool = False) -> None:
    """Puts a pipeline where it computes.

    Args:
        pipeline: in the CPU's memory.
        device: None takes the GPU where there is one.
        offload: only the network at work is on the device; the others wait in the CPU's memory.

    Raises:
        DeviceError: no such device, too little memory, or offloading without a GPU.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if offload:
            pipeline.enable_model_cpu_offload(device=device)
        else:
            pipeline.to(device)
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DeviceError(f"the model cannot be put on {device!r}: {reason}") from error
