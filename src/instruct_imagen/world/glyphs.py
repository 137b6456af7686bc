"""Picture packs: small RGBA cut-outs with names, from a colour font, a folder, or drawn in code.

A pack is what the glyph world puts into its scenes. Membership of the font pack comes from the code point table in
`glyph_names` alone, so two machines with the same font hold the same glyphs whether or not Unicode's CLDR data is
installed; CLDR only supplies better names and synonyms.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError, features

from instruct_imagen.errors import UserError
from instruct_imagen.world.glyph_names import (
    GROUP_CODE_POINTS,
    MAX_SYNONYMS,
    PERSON_VARIANTS,
    SKIN_TONES,
    group_code_points,
    name_code_points,
)

logger = logging.getLogger(__name__)

GLYPH_SIZE_PX = 96
DEFAULT_GROUPS = ("animals", "food", "travel", "activities", "objects")
FONT_ENV = "INSTRUCT_IMAGEN_FONT"
_FONT_NAMES = (
    "NotoColorEmoji.ttf",
    "NotoColorEmoji-Regular.ttf",
    "Noto-COLRv1.ttf",
    "TwitterColorEmoji-SVGinOT.ttf",
)
_FONT_FOLDERS = (
    "/usr/share/fonts/truetype/noto",
    "/usr/share/fonts/noto",
    "/usr/share/fonts/google-noto-emoji",
    "/usr/share/fonts/google-noto-color-emoji-fonts",
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "~/Library/Fonts",
)
_STRIKE_SIZES_PX = (109, 128, 136, 160, 96, 72, 64)  # bitmap fonts open only at the sizes they hold
_CANVAS_PX = 192


class WorldError(UserError):
    """Something asked of the glyph world cannot be done; the message says what to mend."""


@dataclass(frozen=True)
class Glyph:
    """One picture of a pack.

    Attributes:
        key: Stable identifier: hexadecimal code point for fonts, file stem for folders.
        name: Lower-case English name.
        synonyms: Other words that name the same thing, at most four.
        group: Group of the font table, or "folder" / "builtin".
    """

    key: str
    name: str
    synonyms: tuple[str, ...]
    group: str


class GlyphPack:
    """Glyphs with their pictures, in one contiguous array, cheap to pickle and to share after a fork."""

    def __init__(self, name: str, glyphs: Sequence[Glyph], images: np.ndarray) -> None:
        """Makes a pack.

        Args:
            name: Name of the pack.
            glyphs: Descriptions, one a picture, with distinct keys.
            images: uint8 [N, 96, 96, 4], RGBA with straight alpha.

        Raises:
            WorldError: The pack is empty, keys repeat, or the array does not fit the glyphs.
        """
        expected = (len(glyphs), GLYPH_SIZE_PX, GLYPH_SIZE_PX, 4)
        if not glyphs:
            raise WorldError(f"The glyph pack {name!r} holds no pictures.")
        if images.shape != expected or images.dtype != np.uint8:
            raise WorldError(f"Glyph images must be uint8 {expected}, not {images.dtype} {images.shape}.")
        self.name = name
        self.glyphs = tuple(glyphs)
        self.images = np.ascontiguousarray(images)
        self._index = {glyph.key: i for i, glyph in enumerate(self.glyphs)}
        if len(self._index) != len(self.glyphs):
            repeated = [key for key, count in Counter(g.key for g in glyphs).items() if count > 1]
            raise WorldError(f"The glyph pack {name!r} repeats the keys {repeated[:5]}; give each picture its own.")

    def __getstate__(self) -> dict[str, object]:
        """Leaves out what can be computed again."""
        return {k: v for k, v in self.__dict__.items() if k != "_mips"}

    def __len__(self) -> int:
        """Number of glyphs."""
        return len(self.glyphs)

    def __iter__(self) -> Iterator[Glyph]:
        """Glyphs in pack order."""
        return iter(self.glyphs)

    def __contains__(self, key: object) -> bool:
        """Whether the pack has a glyph of this key."""
        return key in self._index

    def __getitem__(self, key: str) -> Glyph:
        """The glyph of this key."""
        return self.glyphs[self._position(key)]

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys in pack order."""
        return tuple(self._index)

    def image(self, key: str) -> np.ndarray:
        """Picture of a glyph: uint8 [96, 96, 4] RGBA, straight alpha, longer side filling 96, centred."""
        return self.images[self._position(key)]

    def mip(self, key: str, longer_side_px: float) -> np.ndarray:
        """Smallest prefiltered picture at least `longer_side_px` wide: uint8 [M, M, 4], premultiplied, M in 12..96."""
        level = 0
        while level + 1 < len(self._mips) and self._mips[level + 1].shape[1] >= longer_side_px:
            level += 1
        return self._mips[level][self._position(key)]

    def prepare(self) -> GlyphPack:
        """Builds the prefiltered pictures now, so that forked workers share them; returns the pack."""
        _ = self._mips
        return self

    @cached_property
    def _mips(self) -> tuple[np.ndarray, ...]:
        alpha = self.images[..., 3:].astype(np.uint16)
        levels = [
            np.concatenate([((self.images[..., :3] * alpha + 127) // 255).astype(np.uint8), self.images[..., 3:]], -1)
        ]
        while levels[-1].shape[1] > 12:
            big = levels[-1]
            total = big[:, 0::2, 0::2].astype(np.uint16) + big[:, 0::2, 1::2] + big[:, 1::2, 0::2] + big[:, 1::2, 1::2]
            levels.append(((total + 2) // 4).astype(np.uint8))
        return tuple(levels)

    def _position(self, key: str) -> int:
        try:
            return self._index[key]
        except KeyError:
            raise WorldError(f"The glyph pack {self.name!r} has no glyph {key!r}.") from None

    @classmethod
    def from_font(cls, font_path: str | Path | None = None, groups: Sequence[str] = DEFAULT_GROUPS) -> GlyphPack:
        """Renders the single code point pictures of a colour bitmap font, in code point order.

        Args:
            font_path: Font file; searched for in the usual places if None.
            groups: Names of the groups to take, from `GROUP_CODE_POINTS`, or "person variants": people in five skin
                tones, whose keys are "CODE POINT/TONE".

        Raises:
            WorldError: No font was found, it cannot be read, it has no colour pictures, or a group is unknown.
        """
        known = {*GROUP_CODE_POINTS, PERSON_VARIANTS}
        unknown = [group for group in groups if group not in known]
        if unknown:
            raise WorldError(f"Unknown glyph groups {unknown}; choose from {sorted(known)}.")
        path = Path(font_path) if font_path is not None else find_font()
        if path is None:
            raise WorldError(f"No colour font found; install fonts-noto-color-emoji or set {FONT_ENV} to a font file.")
        font = _open_font(path)
        missing = _draw_text(font, chr(0x0378)).tobytes()  # an unassigned code point: the font's "missing" picture
        plain = [group for group in groups if group != PERSON_VARIANTS]
        points = sorted({(point, group) for group in plain for point in group_code_points(group)})
        seen: set[bytes] = {missing}
        kept: list[tuple[int, str]] = []
        images: list[np.ndarray] = []
        for point, group in points:
            picture = _draw_text(font, chr(point))
            data = picture.tobytes()
            if data in seen or np.count_nonzero(picture[..., 3] > 32) < 64 or not _is_coloured(picture):
                continue
            seen.add(data)
            kept.append((point, group))
            images.append(fit_picture(picture))
        words = name_code_points([point for point, _ in kept])
        glyphs = [Glyph(f"{point:X}", *words[i], group) for i, (point, group) in enumerate(kept)]
        if PERSON_VARIANTS in groups:
            variants = _person_variants(font)
            glyphs += [glyph for glyph, _ in variants]
            images += [picture for _, picture in variants]
        if not images:
            raise WorldError(f"The font {path} holds no colour bitmap pictures that Pillow can draw; use another font.")
        return cls("font", glyphs, np.stack(images))

    @classmethod
    def from_folder(cls, path: str | Path) -> GlyphPack:
        """Reads RGBA cut-outs (png, webp) from a folder, in file name order.

        A picture's name is its file name with "_" and "-" as blanks. An optional `names.json` maps a file stem to
        a list whose first entry is the name and whose others are synonyms, or to just a name.

        Raises:
            WorldError: The folder or its `names.json` cannot be used, or a picture is unreadable or fully transparent.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise WorldError(f"The glyph folder {folder} does not exist.")
        names = _read_names(folder / "names.json")
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in (".png", ".webp"))
        if not files:
            raise WorldError(f"The glyph folder {folder} holds no .png or .webp files.")
        glyphs, images = [], []
        for file in files:
            images.append(fit_picture(_read_cutout(file)))
            words = names.get(file.stem) or (file.stem.replace("_", " ").replace("-", " ").strip().lower(),)
            glyphs.append(Glyph(file.stem, words[0], tuple(words[1 : 1 + MAX_SYNONYMS]), "folder"))
        return cls(folder.name, glyphs, np.stack(images))

    @classmethod
    def builtin(cls) -> GlyphPack:
        """Shapes drawn in code, for machines without a colour font."""
        from instruct_imagen.world.drawn import draw_shapes

        shapes = draw_shapes()
        glyphs = [Glyph(name.replace(" ", "-"), name, synonyms, "builtin") for name, synonyms, _ in shapes]
        return cls("builtin", glyphs, np.stack([fit_picture(picture) for _, _, picture in shapes]))


def load_pack(source: str = "auto") -> GlyphPack:
    """Loads a pack: "auto" (font if there is one, otherwise drawn shapes), "font", "builtin", or a folder path."""
    if source == "builtin":
        return GlyphPack.builtin()
    if source == "font":
        return GlyphPack.from_font()
    if source != "auto":
        return GlyphPack.from_folder(source)
    if find_font() is None:
        logger.warning("No colour font found; using the built-in drawn shapes (install fonts-noto-color-emoji).")
        return GlyphPack.builtin()
    return GlyphPack.from_font()


def find_font() -> Path | None:
    """The colour font that `INSTRUCT_IMAGEN_FONT` names, else the first one in the usual folders, else None.

    Raises:
        WorldError: The variable names a file that does not exist.
    """
    chosen = os.environ.get(FONT_ENV)
    if chosen:
        if not Path(chosen).is_file():
            raise WorldError(f"{FONT_ENV} names {chosen}, which does not exist.")
        return Path(chosen)
    for folder in _FONT_FOLDERS:
        for name in _FONT_NAMES:
            path = Path(folder).expanduser() / name
            if path.is_file():
                return path
    return None


def fit_picture(rgba: np.ndarray, size_px: int = GLYPH_SIZE_PX) -> np.ndarray:
    """Crops a picture to its alpha, scales its longer side to `size_px`, and centres it.

    Args:
        rgba: uint8 [H, W, 4], straight alpha, not fully transparent.
        size_px: Side of the result.

    Returns:
        uint8 [size_px, size_px, 4], straight alpha.
    """
    ys, xs = np.nonzero(rgba[..., 3] > 8)
    crop = rgba[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].astype(np.float32)
    scale = size_px / max(crop.shape[:2])
    width, height = (max(1, round(side * scale)) for side in (crop.shape[1], crop.shape[0]))
    crop[..., :3] *= crop[..., 3:] / 255.0
    scaled = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    alpha = scaled[..., 3:]
    scaled[..., :3] = np.where(alpha > 0, scaled[..., :3] * 255.0 / np.maximum(alpha, 1e-3), 0)
    result = np.zeros((size_px, size_px, 4), np.uint8)
    top, left = (size_px - height) // 2, (size_px - width) // 2
    result[top : top + height, left : left + width] = np.clip(np.rint(scaled), 0, 255)
    return result


def _open_font(path: Path) -> ImageFont.FreeTypeFont:
    for size_px in _STRIKE_SIZES_PX:
        try:
            return ImageFont.truetype(str(path), size_px)
        except OSError:
            continue
    raise WorldError(f"The font {path} cannot be read as a colour bitmap font; use one such as NotoColorEmoji.ttf.")


def _draw_text(font: ImageFont.FreeTypeFont, text: str) -> np.ndarray:
    canvas = Image.new("RGBA", (_CANVAS_PX, _CANVAS_PX), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((8, 16), text, font=font, embedded_color=True)
    return np.asarray(canvas)


def _person_variants(font: ImageFont.FreeTypeFont) -> list[tuple[Glyph, np.ndarray]]:
    """People in five skin tones, in code point order, where the font joins person and tone into one picture.

    Raises:
        WorldError: Pillow cannot join characters here.
    """
    if not (features.check("raqm") and features.check("fribidi")):
        raise WorldError("Person variants need Pillow's text layout; install libfribidi0 (Debian) or leave them out.")
    points = group_code_points("people")
    found: list[tuple[Glyph, np.ndarray]] = []
    for point, (name, _) in zip(points, name_code_points(points), strict=True):
        pictures = {tone: _draw_text(font, chr(point) + chr(tone)) for tone in SKIN_TONES}
        if len({picture.tobytes() for picture in pictures.values()}) < len(SKIN_TONES):
            continue  # the font drops the tone
        if font.getlength(chr(point) + chr(0x1F3FB)) > 1.5 * font.getlength(chr(point)):
            continue  # drawn side by side: this person has no tones
        for (tone, words), picture in zip(SKIN_TONES.items(), pictures.values(), strict=True):
            glyph = Glyph(f"{point:X}/{tone:X}", f"{name} with {words} skin", (), "people")
            found.append((glyph, fit_picture(picture)))
    return found


def _is_coloured(picture: np.ndarray) -> bool:
    """Whether a font drew a picture, not a plain black letter form."""
    opaque = picture[picture[..., 3] > 200][:, :3]
    return opaque.size > 0 and int(opaque.max()) > 24


def _read_names(path: Path) -> dict[str, tuple[str, ...]]:
    if not path.is_file():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {stem: ((words,) if isinstance(words, str) else tuple(map(str, words))) for stem, words in table.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise WorldError(f"{path} must be a JSON object of file stem to [name, synonym, ...]: {error}.") from error


def _read_cutout(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as picture:
            rgba = np.asarray(picture.convert("RGBA"))
    except (OSError, UnidentifiedImageError) as error:
        raise WorldError(f"The glyph picture {file} cannot be read; replace or remove it.") from error
    if np.count_nonzero(rgba[..., 3] > 8) == 0:
        raise WorldError(f"The glyph picture {file} is fully transparent; replace or remove it.")
    return rgba
