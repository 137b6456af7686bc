"""What every test shares: no network, few threads, reproducible properties, and the glyph packs."""

from __future__ import annotations

import os

# Before torch and the hub's library are imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from tiny_backbones import save_if, save_if_super_resolution, save_stable_diffusion

from instruct_imagen.model import ModelParts, build_model, build_unet
from instruct_imagen.pipeline import InstructImagenPipeline, fast_scheduler
from instruct_imagen.presets import PRESETS
from instruct_imagen.super_resolution import SuperResolutionUNet
from instruct_imagen.text import load_tokenizer, train_tokenizer
from instruct_imagen.training.monitor import make_pipeline
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


@pytest.fixture(scope="session")
def tokenizer_folder(builtin_pack: GlyphPack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The debug preset's tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(builtin_pack, PRESETS["debug"].model.text, folder)
    return folder


@pytest.fixture(scope="session")
def parts(tokenizer_folder: Path) -> ModelParts:
    """An untrained debug model whose context layers, unlike a fresh model's, say something."""
    torch.manual_seed(0)
    built = build_model(PRESETS["debug"].model, load_tokenizer(tokenizer_folder))
    for _, processor in built.unet.context_layers:
        torch.nn.init.normal_(processor.to_out_context.weight, std=0.2)
    built.unet.eval()
    built.text_encoder.eval()
    return built


@pytest.fixture(scope="session")
def pipeline(parts: ModelParts) -> InstructImagenPipeline:
    """A pipeline around `parts`."""
    built = make_pipeline(parts)
    built.set_progress_bar_config(disable=True)
    return built


@pytest.fixture(scope="session")
def model_folder(pipeline: InstructImagenPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pipeline`, saved."""
    folder = tmp_path_factory.mktemp("model") / "debug"
    pipeline.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def second(parts: ModelParts) -> SuperResolutionUNet:
    """An untrained super-resolution for `parts` that, unlike a fresh one, says something of its own."""
    torch.manual_seed(1)
    built = build_unet(PRESETS["debug-sr"].model)
    for _, processor in built.context_layers:
        torch.nn.init.normal_(processor.to_out_context.weight, std=0.2)
    torch.nn.init.normal_(built.backbone.conv_out.weight, std=0.1)
    assert isinstance(built, SuperResolutionUNet)
    return built.eval()


@pytest.fixture(scope="session")
def cascade(parts: ModelParts, second: SuperResolutionUNet) -> InstructImagenPipeline:
    """A pipeline of both networks."""
    schedulers = (fast_scheduler(parts.scheduler.config) for _ in range(2))
    built = InstructImagenPipeline(
        parts.tokenizer, parts.text_encoder, parts.unet, next(schedulers), second, next(schedulers)
    )
    built.set_progress_bar_config(disable=True)
    return built


@pytest.fixture(scope="session")
def cascade_folder(cascade: InstructImagenPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`cascade`, saved."""
    folder = tmp_path_factory.mktemp("cascade") / "debug"
    cascade.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of our own on loopback; the test is skipped where none is installed."""
    from rating_postgres import postgres_server

    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Names new databases: files of SQLite, and under the marker `postgres` the same test on PostgreSQL."""
    if request.param == "sqlite":
        return lambda: str(tmp_path / f"study{next(_DATABASES)}.sqlite3")
    from rating_postgres import create_schema

    url = request.getfixturevalue("postgres_url")
    return lambda: create_schema(url, f"study{next(_DATABASES)}")


_DATABASES = count()


@pytest.fixture(scope="session")
def if_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DeepFloyd IF: the folder of stage I, with stage II in `super-resolution` beside it."""
    folder = tmp_path_factory.mktemp("if")
    base = save_if(folder / "base")
    save_if_super_resolution(folder / "super-resolution", base)
    return folder / "base"


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion."""
    folder = tmp_path_factory.mktemp("sd") / "sd"
    save_stable_diffusion(folder)
    return folder
