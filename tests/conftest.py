"""What every test shares: no network, few threads, reproducible properties, and the glyph packs."""

from __future__ import annotations

import os

# Before torch and the hub's library are imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import settings

from instruct_imagen.world import GlyphPack, find_font

# A busy machine must not fail a property for its speed; in CI the same examples are tried every time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def builtin_pack() -> GlyphPack:
    """The drawn shapes, which need no font; enough for every test that does not ask for many glyphs."""
    return GlyphPack.builtin().prepare()


@pytest.fixture(scope="session")
def font_pack() -> GlyphPack:
    """The colour font's pictures; the test is skipped where no font is installed."""
    if find_font() is None:
        pytest.skip("no colour font installed")
    return GlyphPack.from_font().prepare()
