"""The studio behind its page: pictures, board, drawing, controls, history, and every error in words."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from instruct_imagen.data.controls import ControlModels
from instruct_imagen.data.report import DataError
from instruct_imagen.demo import EXAMPLE_TASKS
from instruct_imagen.errors import InstructionError, UserError
from instruct_imagen.instruction import Instruction, marker_token, markers_in
from instruct_imagen.metadata import read_png_metadata
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.sheet import tile
from instruct_imagen.studio import views
from instruct_imagen.studio.board import (
    Card,
    build_instruction,
    cards_of,
    check,
    read_board,
    renumber,
    write_board,
)
from instruct_imagen.studio.drawing import DrawSettings, PipelinePainter, Progress, Stopped, previews
from instruct_imagen.studio.handlers import Handlers
from instruct_imagen.studio.history import Drawing, Shelf, kept_shelf
from instruct_imagen.studio.pictures import KEPT_PX, PictureStore, StudioError
from instruct_imagen.studio.studio import Studio
from instruct_imagen.world import render
from instruct_imagen.world.scenes import SceneSampler

TEXT = "Draw [ref#1] in the style of [ref#2]."


def noise(seed: int, size: tuple[int, int] = (40, 50)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> PictureStore:
    for name in ("uploads", "pictures"):
        (tmp_path / name).mkdir()
    return PictureStore(tmp_path / "pictures", tmp_path / "uploads", max_pictures=20)


@pytest.fixture
def studio(store: PictureStore, pipeline: InstructImagenPipeline) -> Studio:
    return Studio(PipelinePainter(pipeline, "debug"), store, pack="builtin")


@pytest.fixture
def cards(store: PictureStore) -> tuple[Card, ...]:
    return (Card("fox", (store.add(noise(0)), store.add(noise(1)))), Card("style", (store.add(noise(2)),)))


@pytest.fixture
def photo(builtin_pack) -> Image.Image:
    scene = SceneSampler(builtin_pack, "train").sample(np.random.default_rng(4), num_subjects=1)
    return Image.fromarray(render(scene, builtin_pack, 128).image)


# ---- pictures


def test_an_upload_is_read_kept_and_deleted(store: PictureStore, tmp_path: Path) -> None:
    upload = tmp_path / "uploads" / "fox.png"
    noise(0).save(upload)
    name = store.take_upload(str(upload))
    assert not upload.exists()
    assert np.array_equal(np.asarray(store.open(name)), np.asarray(noise(0)))
    assert store.alpha(name) is None
    assert max(Image.open(store.path(name, small=True)).size) <= 192


def test_uploads_lie_in_the_upload_folder_alone(store: PictureStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    noise(0).save(secret)
    (tmp_path / "uploads" / "link.png").symlink_to(secret)
    tricks = (str(secret), f"{tmp_path}/uploads/../secret.png", f"{tmp_path}/uploads/link.png", "secret.png", "a\0b")
    for path in (*tricks, str(tmp_path / "uploads"), str(tmp_path / "uploads" / "none.png"), "", None, 3, ["x"]):
        with pytest.raises(StudioError, match="has not arrived"):
            store.take_upload(path)
    assert secret.exists()


def test_an_upload_that_is_no_picture_ends_in_a_sentence(store: PictureStore, tmp_path: Path) -> None:
    upload = tmp_path / "uploads" / "fox.png"
    for content in (b"no picture", png(noise(0))[:500]):
        upload.write_bytes(content)
        with pytest.raises(InstructionError, match=r"'fox\.png'"):
            store.take_upload(str(upload))
        assert not upload.exists()


def test_transparency_and_size(store: PictureStore, tmp_path: Path) -> None:
    upload, image = tmp_path / "uploads" / "cut.png", noise(0, (1500, 300))
    image.putalpha(Image.fromarray(np.arange(300)[:, None].repeat(1500, 1).clip(0, 1).astype(np.uint8) * 255))
    image.save(upload)
    name = store.take_upload(str(upload))
    assert store.open(name).size == (KEPT_PX, round(300 * KEPT_PX / 1500))
    alpha = store.alpha(name)
    assert alpha is not None and alpha.shape == store.open(name).size[::-1]
    assert not alpha[0].any() and alpha[3:].all()


def test_the_oldest_pictures_go(store: PictureStore, tmp_path: Path) -> None:
    first, *names = [store.add(noise(seed)) for seed in range(20)]
    store.path(first)
    store.add(noise(99))
    store.open(first)
    with pytest.raises(StudioError, match="no longer here"):
        store.open(names[0])
    assert len(list((tmp_path / "pictures").glob("*.small.png"))) == 20
    for name in ("../secret", "", None, "0" * 40, f"{first}.png"):
        with pytest.raises(StudioError):
            store.path(name)


# ---- the board


def test_the_board_becomes_an_instruction_and_comes_back(cards: tuple[Card, ...], store: PictureStore) -> None:
    assert read_board(write_board(cards)) == cards
    assert read_board(None) == read_board([]) == ()
    instruction = build_instruction(TEXT, cards, store)
    assert [reference.conditioning_text for reference in instruction.references] == [
        "[ref#1] fox",
        "[ref#1] fox",
        "[ref#2] style",
    ]
    assert cards_of(instruction, store) == cards


@pytest.mark.parametrize(
    "value",
    [
        "x",
        {},
        [1],
        [{}],
        [{"text": "fox", "pictures": []}],
        [{"text": 1, "pictures": [{"name": "a"}]}],
        [{"text": "fox", "pictures": [{"name": 1}]}],
        [{"text": "fox", "pictures": [{"name": "a"}] * 101}],
        [{"text": "fox", "pictures": [{"name": "a"}]}] * 10,
    ],
)
def test_an_odd_board_is_refused(value: object) -> None:
    with pytest.raises(StudioError, match="reload"):
        read_board(value)


def test_what_does_not_fit_is_said(cards: tuple[Card, ...], store: PictureStore) -> None:
    for text, sentence in (
        ("Draw [ref#1].", "never named"),
        (f"{TEXT} [ref#3]", "no reference has marker 3"),
        ("  ", "empty"),
        ("[ref#x]", "not a marker"),
    ):
        with pytest.raises(InstructionError, match=sentence):
            check(text, cards)
    with pytest.raises(StudioError, match="no longer here"):
        build_instruction("Draw [ref#1].", (Card("fox", ("0" * 40,)),), store)


@given(st.lists(st.integers(1, 9), unique=True), st.lists(st.integers(1, 9), max_size=12))
def test_markers_follow_their_cards(order: list[int], named: list[int]) -> None:
    text = "a " + " b ".join(marker_token(marker) for marker in named)
    left = [order.index(marker) + 1 for marker in named if marker in order]
    assert list(markers_in(renumber(text, order))) == left


def test_renumbering_spares_the_rest_of_the_text() -> None:
    assert renumber("Draw [REF#2] on a beach, like [ref#1].", [2]) == "Draw [ref#1] on a beach, like ."
    assert renumber("Draw [ref", [1]) == "Draw [ref"
    assert renumber("no marker", [2, 1]) == "no marker"


# ---- drawing


def drawn(studio: Studio, text: str, cards: tuple[Card, ...], settings: DrawSettings) -> tuple[list[Progress], Drawing]:
    studio.visit("a").ask()
    *news, last = studio.draw(studio.visit("a"), text, cards, settings)
    assert isinstance(last, Drawing) and all(isinstance(item, Progress) for item in news)
    return [item for item in news if isinstance(item, Progress)], last


def test_a_drawing_is_what_the_pipeline_draws(studio: Studio, cards: tuple[Card, ...], pipeline) -> None:
    settings = DrawSettings(2, 7, 3, 2.0, 1.5)
    progress, drawing = drawn(studio, TEXT, cards, settings)
    steps = [news.step for news in progress]
    assert steps == sorted(set(steps)) and all(news.num_steps == 3 for news in progress)
    images = pipeline(
        build_instruction(TEXT, cards, studio.store),
        num_inference_steps=3,
        guidance_scale=2.0,
        image_guidance_scale=1.5,
        num_images_per_prompt=2,
        generator=[torch.Generator().manual_seed(seed) for seed in (7, 8)],
    ).images
    for number, (name, image) in enumerate(zip(drawing.pictures, images, strict=True)):
        assert np.array_equal(np.asarray(studio.store.open(name)), np.asarray(tile(image, 256)))
        made = read_png_metadata(studio.store.path(name))
        assert (made.seed, made.instruction, made.size_px, made.model) == (7 + number, TEXT, 256, "debug")
        assert made.references == ((1, "fox"), (1, "fox"), (2, "style"))
        assert (made.num_inference_steps, made.guidance_scale, made.image_guidance_scale) == (3, 2.0, 1.5)
    assert studio.visit("a").shelf.drawings == (drawing,)
    assert studio.visit("b").shelf.drawings == ()


class SlowPainter:
    """Takes a step whenever the test looks, and ends only when it is stopped."""

    model = "slow"

    def draw(self, instruction: Instruction, settings: DrawSettings, stop: threading.Event) -> Iterator[Progress]:
        step = 0
        while not stop.wait(0.01):
            yield Progress(step, 1000, previews(torch.zeros(1, 3, 8, 8)))
            step += 1
        raise Stopped


def test_stop_and_a_closed_page(store: PictureStore) -> None:
    studio = Studio(SlowPainter(), store, pack="builtin")
    handlers = Handlers(studio)
    for end in (handlers.stop, handlers.end):
        handlers.ask("a")
        shown = handlers.draw("a", "a fox", [], DrawSettings(), vary=False)
        assert "Reading" in (next(shown).stage or "")
        assert "Step 1 of 1000" in (next(shown).stage or "")
        end("a")
        assert "Stopped" in (list(shown)[-1].stage or "")
    assert studio.visit("a").shelf.drawings == ()
    handlers.ask("a")
    handlers.stop("a")  # while it waits for its turn
    (only,) = handlers.draw("a", "a fox", [], DrawSettings(), vary=False)
    assert "Stopped" in (only.stage or "")


def test_the_pipeline_stops_after_its_step(pipeline, monkeypatch) -> None:
    monkeypatch.setattr("instruct_imagen.studio.drawing.SECONDS_BETWEEN_PREVIEWS", 0.0)
    painter, stop = PipelinePainter(pipeline, "debug"), threading.Event()
    news = painter.draw(Instruction("a fox"), DrawSettings(num_inference_steps=200), stop)
    first = next(item for item in news if isinstance(item, Progress) and item.step)
    assert first.previews[0].size == (32, 32)
    stop.set()
    with pytest.raises(Stopped):
        for _ in news:
            pass
    abandoned = painter.draw(Instruction("a fox"), DrawSettings(num_inference_steps=200), threading.Event())
    next(abandoned)
    abandoned.close()  # returns only when the thread has ended
    assert len(list(painter.draw(Instruction("a fox"), DrawSettings(num_inference_steps=1), threading.Event()))) >= 1


def test_what_fails_inside_the_pipeline_is_raised(pipeline, monkeypatch) -> None:
    def fail(*_, **__):
        raise RuntimeError("no memory")

    monkeypatch.setattr(type(pipeline), "__call__", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        list(PipelinePainter(pipeline, "debug").draw(Instruction("a fox"), DrawSettings(), threading.Event()))


@pytest.mark.parametrize(
    "bad",
    [
        {"num_images": 0},
        {"num_images": 9},
        {"num_images": 1.5},
        {"seed": -1},
        {"seed": 2**31},
        {"seed": True},
        {"num_inference_steps": 0},
        {"num_inference_steps": 257},
        {"guidance_scale": -0.1},
        {"guidance_scale": float("nan")},
        {"guidance_scale": "3"},
        {"image_guidance_scale": float("inf")},
    ],
)
def test_settings_have_ranges(bad: dict) -> None:
    with pytest.raises(StudioError, match=r"must be a .*number from"):
        DrawSettings(**bad)


# ---- controls and examples


def test_controls_of_a_photo(studio: Studio, store: PictureStore, photo: Image.Image) -> None:
    name = store.add(photo)
    found = {kind: store.open(studio.control(name, kind)) for kind in ("edge", "mask", "sketch")}
    assert all(image.size == photo.size for image in found.values())
    assert set(np.unique(np.asarray(found["mask"]))) == set(np.unique(np.asarray(found["edge"]))) == {0, 255}
    assert studio.control(name, "edge", 3) == studio.control(name, "edge", 3)
    assert len({studio.control(name, "sketch", variation) for variation in range(3)}) > 1


def test_a_mask_is_the_pictures_own_transparency(studio: Studio, store: PictureStore, photo: Image.Image) -> None:
    alpha = np.zeros((128, 128), bool)
    alpha[20:60, 30:90] = True
    mask = np.asarray(store.open(studio.control(store.add(photo, alpha), "mask")))
    assert np.array_equal(mask[..., 0] > 0, alpha)


def test_depth_needs_a_network(studio: Studio, store: PictureStore, photo: Image.Image) -> None:
    name = store.add(photo)
    with pytest.raises(StudioError, match="--depth-model FOLDER"):
        studio.control(name, "depth")
    depth = Studio(studio.painter, store, ControlModels(depth_model=lambda image: np.ones(image.size[::-1], "f4")))
    assert np.asarray(store.open(depth.control(name, "depth"))).min() == 255


def test_controls_that_cannot_be(studio: Studio, store: PictureStore) -> None:
    plain = store.add(Image.new("RGB", (64, 64), "grey"))
    for kind in ("edge", "sketch", "mask"):
        with pytest.raises(StudioError, match="found in this picture"):
            studio.control(plain, kind)
    for arguments in ((plain, "heat"), (plain, "edge", "x"), (plain, "edge", True), ("none", "edge"), (plain, None)):
        with pytest.raises(StudioError):
            studio.control(*arguments)


def test_every_task_has_an_example_that_can_be_drawn(studio: Studio) -> None:
    studio.store._max_pictures = 200
    for task in EXAMPLE_TASKS:
        text, cards = studio.example(task)
        check(text, cards)
        assert studio.example(task) == (text, cards)
    assert "edit" in EXAMPLE_TASKS and len(EXAMPLE_TASKS) == len(set(EXAMPLE_TASKS)) == 16
    for task in ("none", None, 3):
        with pytest.raises(StudioError, match="no example"):
            studio.example(task)


# ---- history


def test_the_history_keeps_the_newest_and_finds_by_key() -> None:
    shelf = Shelf()
    for number in range(70):
        shelf.add(Drawing(f"text {number}", (), DrawSettings(), (f"{number}",)))
    assert len(shelf.drawings) == 60 and shelf.drawings[0].text == "text 69"
    shelf.add(shelf.find("12"))
    assert [drawing.key for drawing in shelf.drawings[:2]] == ["12", "69"] and len(shelf.drawings) == 60
    with pytest.raises(StudioError, match="no longer in the history"):
        shelf.find("1")


def test_a_kept_history_survives(studio: Studio, cards: tuple[Card, ...], tmp_path: Path) -> None:
    store, folder = studio.store, tmp_path / "kept"
    keeping = Studio(studio.painter, store, pack="builtin", keep=folder)
    settings = DrawSettings(2, 7, 1, 2.0, 1.5)
    drawing = drawn(keeping, TEXT, cards, settings)[1]
    (entry,) = folder.iterdir()
    assert {path.name for path in entry.iterdir()} >= {
        "instruction.json",
        "instruction.ref0.png",
        "seed-7.png",
        "seed-8.png",
    }
    again = Studio(studio.painter, store, pack="builtin", keep=folder)
    assert again.visit("other").shelf.drawings == (replace(drawing, seconds=0.0),)
    shutil.copytree(entry, folder / "damaged")
    (folder / "damaged" / "seed-7.png").write_bytes(b"x")
    (folder / "empty").mkdir()
    assert kept_shelf(folder, store).drawings == (replace(drawing, seconds=0.0),)
    with pytest.raises(UserError):
        Studio(studio.painter, store, keep=entry / "seed-7.png")


# ---- the page's events and its HTML


def test_a_visit_by_its_events(studio: Studio, cards: tuple[Card, ...]) -> None:
    handlers = Handlers(studio)
    board, settings = write_board(cards), DrawSettings(num_inference_steps=1)
    assert "Ready" in handlers.read(TEXT, board)
    *_, last = handlers.draw("a", TEXT, board, settings, vary=True)
    assert last.seed is not None and f"Use seed {last.seed}" in (last.stage or "")
    drawing = studio.visit("a").shelf.drawings[0]
    assert drawing.key in (last.history or "") and drawing.key in handlers.history("a")
    assert "Nothing drawn" in handlers.history("b")
    back = handlers.open("a", drawing.key)
    assert (back.text, back.board) == (TEXT, board)
    assert back.settings == replace(settings, seed=last.seed)
    handlers.ask("a")
    *_, again = handlers.draw("a", back.text, back.board, back.settings, vary=False)
    assert studio.visit("a").shelf.drawings[0].pictures == drawing.pictures and again.seed == last.seed
    assert handlers.seed(str(last.seed)) == last.seed
    for value in ("x", None, "-1", str(2**40), 7):
        with pytest.raises(StudioError):
            handlers.seed(value)
    with pytest.raises(StudioError):
        handlers.open("b", drawing.key)
    assert handlers.renumber("[ref#2]", [2]) == "[ref#1]"
    assert handlers.renumber("[ref#2]", "odd") == "[ref#2]"
    handlers.end("a")
    assert "Nothing drawn" in handlers.history("a")


def test_markers_become_chips_and_text_is_escaped() -> None:
    cards = (Card("<b>fox</b>", ("a", "b")), Card("", ('"><script>',)))
    html = views.reading_html("<i>Draw</i> [ref#1], [REF#2] & [ref#3]", cards)
    assert 'class="chip m1"' in html and 'class="chip m2"' in html and 'class="chip missing"' in html
    assert "&lt;b&gt;fox&lt;/b&gt; ×2" in html and "&lt;i&gt;Draw" in html
    assert "<script" not in html and "<i>" not in html
    assert "no reference has marker 3" in html and 'role="status"' in html
    for html in (
        views.drawing_html(Drawing("<i>", (), DrawSettings(), ("a", "b"))),
        views.history_html([Drawing("<i>", (), DrawSettings(), ("a",))]),
        views.header_html("<i>"),
        views.message_html("<i>"),
    ):
        assert "<i>" not in html and "&lt;i&gt;" in html


def test_errors_of_the_network_for_depth_are_in_words(studio: Studio, store: PictureStore, photo: Image.Image) -> None:
    from instruct_imagen.data.control_models import TransformersDepth

    broken = Studio(studio.painter, store, ControlModels(depth_model=TransformersDepth("no/such/folder")))
    with pytest.raises(DataError, match="cannot be loaded"):
        broken.control(store.add(photo), "depth")
