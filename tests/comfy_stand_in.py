"""A small stand-in for the part of ComfyUI's V3 node interface that the node pack uses, after its documentation.

It is stricter than the original where that finds mistakes: unknown arguments, clashing ids, links of other types,
values outside their range, state kept on a node's class, and outputs that the schema does not announce are errors.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PILImage


class Interrupted(Exception):
    """The user pressed Cancel."""


@dataclass
class Slot:
    """An input or an output."""

    id: str | None = None
    display_name: str | None = None
    tooltip: str | None = None
    optional: bool = False
    default: Any = None
    min: Any = None
    max: Any = None
    step: Any = None
    options: Sequence[str] | None = None
    multiline: bool = False
    placeholder: str | None = None
    control_after_generate: bool = False
    kind: str = ""


def slot_type(kind: str, *allowed: str, widget: type | None = None) -> type:
    """A type of the interface, with its Input and Output."""
    inputs = {"display_name", "tooltip", "optional", *allowed}

    class Input(Slot):
        def __init__(self, id: str, **options: Any):
            assert set(options) <= inputs, f"{kind} takes no {set(options) - inputs}"
            super().__init__(id=id, kind=kind, **options)

    class Output(Slot):
        def __init__(self, id: str | None = None, **options: Any):
            assert set(options) <= {"display_name", "tooltip"}
            super().__init__(id=id, kind=kind, **options)

    return type(kind.title(), (), {"Input": Input, "Output": Output, "widget": widget})


class Hidden(StrEnum):
    unique_id = "UNIQUE_ID"


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Slot] = field(default_factory=list)
    outputs: list[Slot] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""


class NodeOutput:
    def __init__(self, *args: Any):
        self.args = args


class ComfyNode:
    hidden: Any = None

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError

    @classmethod
    def execute(cls, **_: Any) -> NodeOutput:
        raise NotImplementedError


class ComfyExtension:
    async def get_node_list(self) -> list[type[ComfyNode]]:
        raise NotImplementedError


class ComfyUI:
    """A node pack, loaded as ComfyUI does, and its nodes run one by one."""

    def __init__(self, pack: Path):
        self.progress: list[tuple[float, float, str, tuple[int, int]]] = []
        self.cancel_at: int | None = None
        for name, module in self._modules().items():
            sys.modules[name] = module
        spec = importlib.util.spec_from_file_location(
            "comfy_pack", pack / "__init__.py", submodule_search_locations=[str(pack)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["comfy_pack"] = module
        spec.loader.exec_module(module)
        extension = asyncio.run(module.comfy_entrypoint())
        assert isinstance(extension, ComfyExtension)
        self.nodes = {node.define_schema().node_id: node for node in asyncio.run(extension.get_node_list())}

    def close(self) -> None:
        """Forgets the pack and the interface."""
        for name in [*self._modules(), "comfy_pack", "comfy_pack.nodes"]:
            sys.modules.pop(name, None)

    def schema(self, node_id: str) -> Schema:
        """A node's schema, checked as ComfyUI checks it."""
        schema = self.nodes[node_id].define_schema()
        given = [slot.id for slot in schema.inputs]
        produced = [slot.id or f"_{i}_{slot.kind}_" for i, slot in enumerate(schema.outputs)]
        assert len({*given, *produced}) == len(given) + len(produced), "ids must differ"
        for slot in schema.inputs:
            self._check(slot, slot.default, "default")
        return schema

    def run(self, node_id: str, **values: Any) -> tuple[Any, ...]:
        """Runs a node with its inputs: widgets' defaults where nothing is given, links as `Link`."""
        node, schema = self.nodes[node_id], self.schema(node_id)
        slots = {slot.id: slot for slot in schema.inputs}
        assert set(values) <= set(slots), set(values) - set(slots)
        inputs = {}
        for name, slot in slots.items():
            if name in values:
                value = values[name]
                if isinstance(value, Link):
                    assert value.kind == slot.kind, f"{value.kind} does not fit {name}"
                    value = value.value
                self._check(slot, value, name)
                inputs[name] = value
            elif not slot.optional:
                assert slot.default is not None, f"{name} is missing"
                inputs[name] = slot.default
        hidden = types.SimpleNamespace(**{one.name: "7" for one in schema.hidden})
        clone = type(node.__name__, (node,), {"hidden": hidden})
        before = dict(vars(node))
        output = clone.execute(**inputs)
        assert dict(vars(node)) == before and set(vars(clone)) <= {"hidden", "__module__", "__doc__"}, (
            "nodes keep no state"
        )
        assert isinstance(output, NodeOutput) and len(output.args) == len(schema.outputs)
        return tuple(Link(slot.kind, value) for slot, value in zip(schema.outputs, output.args, strict=True))

    @staticmethod
    def _check(slot: Slot, value: Any, what: str) -> None:
        if value is None:
            return
        if slot.options is not None:
            assert value in slot.options, what
        if slot.kind in ("INT", "FLOAT"):
            assert slot.min <= value <= slot.max, what
            assert slot.kind == "FLOAT" or isinstance(value, int)
        if slot.kind == "IMAGE":
            assert value.ndim == 4 and value.dtype == torch.float32 and value.shape[-1] in (1, 3, 4)

    def _modules(self) -> dict[str, types.ModuleType]:
        owner = self

        class Execution:
            def set_progress(
                self, value: float, max_value: float, node_id: str | None = None, preview_image: Any = None
            ) -> None:
                assert isinstance(preview_image, PILImage.Image) and node_id is not None
                owner.progress.append((value, max_value, node_id, preview_image.size))

        class ComfyAPISync:
            execution = Execution()

        def throw_if_interrupted() -> None:
            if owner.cancel_at is not None and len(owner.progress) >= owner.cancel_at:
                raise Interrupted

        number = ("default", "min", "max", "step")
        names = {
            "ComfyNode": ComfyNode,
            "Schema": Schema,
            "NodeOutput": NodeOutput,
            "Hidden": Hidden,
            "Custom": slot_type,
            "Image": slot_type("IMAGE"),
            "String": slot_type("STRING", "default", "multiline", "placeholder"),
            "Int": slot_type("INT", *number, "control_after_generate"),
            "Float": slot_type("FLOAT", *number),
            "Combo": slot_type("COMBO", "default", "options"),
        }
        latest, comfy, management = (
            types.ModuleType(n) for n in ("comfy_api.latest", "comfy", "comfy.model_management")
        )
        latest.__dict__.update(
            io=types.SimpleNamespace(**names), ComfyExtension=ComfyExtension, ComfyAPISync=ComfyAPISync
        )
        management.__dict__.update(
            get_torch_device=lambda: torch.device("cpu"), throw_exception_if_processing_interrupted=throw_if_interrupted
        )
        comfy.__dict__["model_management"] = management
        return {
            "comfy_api": types.ModuleType("comfy_api"),
            "comfy_api.latest": latest,
            "comfy": comfy,
            "comfy.model_management": management,
        }


@dataclass(frozen=True)
class Link:
    """What one node hands to another."""

    kind: str
    value: Any
