"""What is installed: every requirement is pinned within its range, and nothing drags in torchvision."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINES = (*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra))
REQUIREMENTS = [r for r in map(Requirement, LINES) if r.name != PROJECT["name"]]  # extras may name other extras


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_every_requirement_is_pinned_within_its_range(requirement: Requirement) -> None:
    version = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version)
    assert re.fullmatch(r"[0-9.]+", version), "a local version label or a pre-release is no pin that others can install"


def test_nothing_brings_torchvision() -> None:
    assert "torchvision" not in pins()
    assert "torchvision" not in {canonicalize_name(requirement.name) for requirement in REQUIREMENTS}
