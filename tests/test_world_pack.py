"""Packs and splits of the glyph world."""

import json
import logging
import pickle

import numpy as np
import pytest
from PIL import Image, features

from instruct_imagen.world import (
    DEFAULT_GROUPS,
    HELD_OUT_STYLES,
    STYLE_NAMES,
    GlyphPack,
    WorldError,
    find_font,
    glyph_split,
    glyphs_of,
    load_pack,
    style_split,
    styles_of,
)
from instruct_imagen.world import glyphs as glyphs_module
from instruct_imagen.world.glyph_names import GROUP_CODE_POINTS, group_code_points, name_code_points, prune_synonyms

needs_font = pytest.mark.skipif(find_font() is None, reason="no colour font installed")


@pytest.fixture(scope="module")
def builtin() -> GlyphPack:
    return GlyphPack.builtin()


@pytest.fixture(scope="module")
def font_pack() -> GlyphPack:
    return GlyphPack.from_font()


def check_pictures(pack: GlyphPack) -> None:
    for glyph in pack:
        picture = pack.image(glyph.key)
        assert picture.shape == (96, 96, 4) and picture.dtype == np.uint8
        ys, xs = np.nonzero(picture[..., 3] > 8)
        assert max(np.ptp(ys), np.ptp(xs)) >= 94, glyph
        assert abs((ys.min() + ys.max()) - 95) <= 3 and abs((xs.min() + xs.max()) - 95) <= 3, glyph


def test_builtin_pack_has_named_distinct_pictures(builtin):
    assert len(builtin) >= 24
    names = {glyph.name for glyph in builtin}
    assert {"red star", "blue cube", "green tree", "house", "fish"} <= names and len(names) == len(builtin)
    assert len({builtin.image(key).tobytes() for key in builtin.keys}) == len(builtin)
    check_pictures(builtin)


@needs_font
def test_font_pack_is_big_named_and_without_repeats(font_pack):
    assert 600 <= len(font_pack) <= 1000
    assert font_pack["1F98A"].name in ("fox", "fox face") and font_pack["1F98A"].group == "animals"
    assert list(font_pack.keys) == sorted(font_pack.keys, key=lambda key: int(key, 16))
    assert len({font_pack.image(key).tobytes() for key in font_pack.keys}) == len(font_pack)
    assert len({glyph.name for glyph in font_pack}) == len(font_pack)
    assert {glyph.group for glyph in font_pack} == set(DEFAULT_GROUPS)
    check_pictures(font_pack)


@needs_font
def test_membership_of_font_pack_does_not_need_cldr(font_pack, monkeypatch):
    bare = lambda points: name_code_points(points, glyphs_module.Path("/nowhere/en.xml"))  # noqa: E731
    monkeypatch.setattr(glyphs_module, "name_code_points", bare)
    without = GlyphPack.from_font(groups=("animals",))
    assert without.keys == tuple(glyph.key for glyph in font_pack if glyph.group == "animals")
    assert len({glyph.name for glyph in without}) == len(without)


def test_person_variants_are_people_in_five_tones_of_one_split():
    if find_font() is None or not (features.check("raqm") and features.check("fribidi")):
        pytest.skip("no colour font or no text layout installed")
    pack = GlyphPack.from_font(groups=("person variants",))
    assert len(pack) >= 300
    by_person: dict[str, list[str]] = {}
    for key in pack.keys:
        by_person.setdefault(key.split("/")[0], []).append(key)
    for person, keys in by_person.items():
        assert len(keys) == 5, person
        assert len({pack.image(key).tobytes() for key in keys}) == 5
        assert len({glyph_split(key) for key in keys}) == 1
        assert pack[keys[4]].name.endswith(" with dark skin")


def test_groups_do_not_share_code_points():
    points = [point for group in GROUP_CODE_POINTS for point in group_code_points(group)]
    assert len(points) == len(set(points))


def test_synonyms_identify_their_glyph():
    shared = [(name, ["moon", "bike"]) for name in "abcd"] + [
        ("bicycle", ["bike"]),
        ("e", ["bicycle", "fast", "yacht"]),
    ]
    assert prune_synonyms(shared) == [(), (), (), (), (), ("yacht",)]
    assert prune_synonyms([("bicycle", ["bike", "bike"])]) == [("bike",)]


def test_mips_shrink_and_keep_the_mean(builtin):
    key = builtin.keys[0]
    for wanted, side in ((96, 96), (60, 96), (48, 48), (20, 24), (5, 12)):
        mip = builtin.mip(key, wanted)
        assert mip.shape == (side, side, 4)
        assert abs(mip[..., 3].mean() - builtin.image(key)[..., 3].mean()) < 1
        assert (mip[..., :3] <= mip[..., 3:].astype(int) + 1).all(), "premultiplied"


def test_pack_pickles_without_its_mips(builtin):
    builtin.prepare()
    data = pickle.dumps(builtin)
    assert len(data) < builtin.images.nbytes * 1.1
    copy = pickle.loads(data)
    assert copy.glyphs == builtin.glyphs and np.array_equal(copy.images, builtin.images)


def make_folder(tmp_path, names=None):
    for stem, colour in (("blue_disc", (0, 0, 255)), ("red-box", (255, 0, 0)), ("thing3", (0, 200, 0))):
        picture = np.zeros((40, 60, 4), np.uint8)
        picture[10:30, 5:55] = (*colour, 255)
        Image.fromarray(picture).save(tmp_path / f"{stem}.png")
    if names is not None:
        (tmp_path / "names.json").write_text(json.dumps(names))
    return tmp_path


def test_folder_pack_takes_names_from_files_and_json(tmp_path):
    pack = load_pack(str(make_folder(tmp_path, {"blue_disc": ["azure coin", "token"], "thing3": "green bar"})))
    assert [(g.key, g.name, g.synonyms) for g in pack] == [
        ("blue_disc", "azure coin", ("token",)),
        ("red-box", "red box", ()),
        ("thing3", "green bar", ()),
    ]
    check = pack.image("red-box")
    assert tuple(check[48, 48]) == (255, 0, 0, 255) and check[4, 48, 3] == 0


def test_bad_folders_say_what_is_wrong(tmp_path):
    with pytest.raises(WorldError, match="does not exist"):
        load_pack(str(tmp_path / "none"))
    with pytest.raises(WorldError, match=r"no \.png"):
        load_pack(str(tmp_path))
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(WorldError, match=r"broken\.png cannot be read"):
        load_pack(str(tmp_path))
    Image.new("RGBA", (8, 8)).save(tmp_path / "broken.png")
    with pytest.raises(WorldError, match="fully transparent"):
        load_pack(str(tmp_path))
    (tmp_path / "names.json").write_text("[1]")
    with pytest.raises(WorldError, match=r"names\.json"):
        load_pack(str(tmp_path))


def test_pack_errors(builtin, tmp_path):
    with pytest.raises(WorldError, match="no glyph 'dodo'"):
        _ = builtin["dodo"]
    with pytest.raises(WorldError, match="no glyph"):
        builtin.image("dodo")
    with pytest.raises(WorldError, match="repeats the keys"):
        GlyphPack("twice", [builtin.glyphs[0]] * 2, builtin.images[:2])
    with pytest.raises(WorldError, match="holds no pictures"):
        GlyphPack("none", [], builtin.images[:0])
    with pytest.raises(WorldError, match="must be uint8"):
        GlyphPack("odd", builtin.glyphs[:1], builtin.images[:1, :9])
    with pytest.raises(WorldError, match="Unknown glyph groups"):
        GlyphPack.from_font(groups=("planets",))
    (tmp_path / "font.ttf").write_bytes(b"x")
    with pytest.raises(WorldError, match="cannot be read"):
        GlyphPack.from_font(tmp_path / "font.ttf")


def test_auto_falls_back_to_builtin_and_says_so(monkeypatch, caplog):
    monkeypatch.delenv("INSTRUCT_IMAGEN_FONT", raising=False)
    monkeypatch.setattr(glyphs_module, "_FONT_FOLDERS", ())
    with caplog.at_level(logging.WARNING):
        assert load_pack().name == "builtin"
    assert "No colour font" in caplog.text
    with pytest.raises(WorldError, match="No colour font"):
        load_pack("font")
    monkeypatch.setenv("INSTRUCT_IMAGEN_FONT", "/nowhere.ttf")
    with pytest.raises(WorldError, match=r"nowhere\.ttf"):
        load_pack()


def test_glyph_split_is_pinned_for_ever():
    keys = [f"{point:X}" for point in range(0x1F400, 0x1F420)]
    held = "".join("h" if glyph_split(key) == "held_out" else "t" for key in keys)
    assert held == "thttttttttttttttthththhhtthttttt"
    assert 0.18 < sum(glyph_split(str(i)) == "held_out" for i in range(5000)) / 5000 < 0.22


@needs_font
def test_at_least_128_glyphs_are_held_out(font_pack):
    held = glyphs_of(font_pack.keys, "held_out")
    assert 128 <= len(held) <= 0.25 * len(font_pack)
    assert sorted((*held, *glyphs_of(font_pack.keys, "train"))) == sorted(font_pack.keys)


def test_a_fifth_of_the_styles_is_held_out():
    assert set(STYLE_NAMES) > HELD_OUT_STYLES and style_split("plain") == "train"
    assert len(HELD_OUT_STYLES) == -(-len(STYLE_NAMES) // 5)
    assert set(styles_of(STYLE_NAMES, "held_out")) == HELD_OUT_STYLES
