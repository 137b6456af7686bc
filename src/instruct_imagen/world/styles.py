"""Styles of the glyph world: how a scene is rendered.

A `Style` is a name with continuous parameters.  `sample_style` draws the
parameters, `apply_style` renders a picture, `style_phrases` says how an
instruction may call it::

    style = sample_style(np.random.default_rng(3), "watercolour")
    picture = apply_style(style, image, mask, depth, seed=7)

Styles are test instruments, not imitations of art: each must be told from a
picture of any subject at 64 x 64 pixels, and must leave the subject's shape
readable.  `tests/test_world_styles.py` measures the first with a linear
classifier.  The departure from the paper (arXiv 2401.01952, section 3.2,
which takes styled photographs from model-made data) is deliberate: an exact
rendering lets style following be measured.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from instruct_imagen.errors import UserError

from . import style_drawings as drawings
from . import style_prints as prints
from .style_textures import Canvas

MIN_SIZE_PX = 32


class StyleError(UserError):
    """A style was named, or given a picture, that does not exist or does not fit."""


@dataclass(frozen=True)
class Style:
    """A style with its parameters fixed.

    Attributes:
        name: one of `STYLE_NAMES`.
        params: (parameter, value) pairs in the order of the style's ranges.
    """

    name: str
    params: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class ParamRange:
    """A continuous parameter, drawn evenly from [low, high]."""

    name: str
    low: float
    high: float
    meaning: str


@dataclass(frozen=True)
class StyleSpec:
    """Everything there is to know about one style.

    Attributes:
        name: its key.
        render: (canvas, **params) -> RGB [S, S, 3], uint8 or float in [0, 1].
        phrases: noun phrases without article, the plainest first.
        params: the ranges of its parameters.
    """

    name: str
    render: Callable[..., np.ndarray]
    phrases: tuple[str, ...]
    params: tuple[ParamRange, ...] = ()


def plain(canvas: Canvas) -> np.ndarray:
    """The picture as it is."""
    return canvas.image.copy()


def _spec(render: Callable[..., np.ndarray], phrases: str, *params: tuple[str, float, float, str]) -> StyleSpec:
    """Names a style after its function, with underscores as spaces."""
    name = render.__name__.replace("_", " ")
    return StyleSpec(name, render, tuple(phrases.split(" | ")), tuple(ParamRange(*p) for p in params))


# Lengths are in pixels of a 64-pixel picture, hues in turns (0 red, 1/3 green), angles in degrees.
_SPECS = (
    _spec(plain, "plain picture | flat icon style | ordinary emoji style"),
    # Drawn
    _spec(
        drawings.pencil,
        "pencil drawing | pencil sketch | graphite drawing",
        ("darkness", 0.8, 1.0, "strength of the graphite"),
        ("slant", 35.0, 60.0, "angle of the shading"),
        ("grain", 0.1, 0.3, "tooth of the paper"),
    ),
    _spec(
        drawings.ink,
        "ink drawing | pen and ink drawing | cross-hatched ink illustration",
        ("spacing", 3.4, 4.6, "distance of hatching lines"),
        ("slant", 35.0, 55.0, "angle of the first hatching"),
        ("weight", 0.9, 1.2, "thickness of hatching lines"),
    ),
    _spec(
        drawings.charcoal,
        "charcoal drawing | smudged charcoal sketch | charcoal on grey paper",
        ("smudge", 1.2, 1.8, "blur of the tone"),
        ("darkness", 0.95, 1.2, "load of charcoal"),
        ("grain", 0.7, 1.1, "tooth of the paper"),
    ),
    _spec(
        drawings.chalk,
        "chalk drawing | chalkboard drawing | coloured chalk on a blackboard",
        ("board_hue", 0.36, 0.46, "hue of the dark board"),
        ("coverage", 0.85, 1.1, "load of chalk in the subject"),
        ("grain", 0.8, 1.1, "roughness of the board"),
    ),
    _spec(
        drawings.crayon,
        "crayon drawing | wax crayon picture | child's crayon scribble",
        ("slant", 30.0, 60.0, "direction of the scribble"),
        ("wax", 0.74, 0.86, "share of paper covered in the subject"),
        ("stroke", 2.0, 2.75, "width of a stroke"),
    ),
    _spec(
        drawings.comic,
        "comic book style | comic panel | bold cartoon with black outlines",
        ("outline", 1.0, 1.9, "width of the outline"),
        ("dots", 3.6, 4.6, "distance of the printed dots"),
        ("levels", 3.0, 4.4, "steps per colour channel"),
    ),
    _spec(
        drawings.blueprint,
        "blueprint | technical blueprint | white-on-blue construction plan",
        ("hue", 0.59, 0.63, "hue of the paper"),
        ("spacing", 7.0, 9.0, "distance of the grid lines"),
        ("fill", 0.1, 0.3, "strength of the subject's tone"),
    ),
    _spec(
        drawings.contour_map,
        "contour map | topographic map | walking map with height lines",
        ("interval", 0.09, 0.13, "height between lines"),
        ("tint", -0.03, 0.05, "turn of the tints' hue"),
        ("line", 0.7, 0.95, "strength of the height lines"),
    ),
    # Painted
    _spec(
        drawings.watercolour,
        "watercolour painting | watercolour wash | pale aquarelle",
        ("wash", 0.1, 0.5, "water in the paint"),
        ("bleed", 2.0, 4.5, "how far edges wander"),
        ("margin", 5.0, 8.0, "width of the bare paper"),
    ),
    _spec(
        drawings.oil,
        "oil painting | thick oil brushwork | impasto painting",
        ("length", 5.6, 7.4, "length of a stroke"),
        ("relief", 0.6, 0.95, "thickness of the paint"),
        ("richness", 1.3, 1.6, "strength of colour"),
    ),
    _spec(
        drawings.pointillism,
        "pointillist painting | pointillism | painting made of dots",
        ("dot", 3.6, 4.4, "distance of dots"),
        ("vividness", 0.12, 0.22, "spread of neighbouring colours"),
        ("gap", 0.14, 0.2, "canvas left between dots"),
    ),
    # Cut, set and stitched
    _spec(
        drawings.mosaic,
        "mosaic | stone tile mosaic | Roman tesserae",
        ("tile", 3.6, 4.6, "side of a tile"),
        ("grout", 0.35, 0.5, "half the width of a joint"),
        ("variety", 0.2, 0.4, "spread of brightness between tiles"),
    ),
    _spec(
        drawings.stained_glass,
        "stained glass window | leaded glass | church window",
        ("pane", 8.5, 11.0, "side of a pane"),
        ("lead", 0.8, 1.1, "half the width of a lead"),
        ("glow", 0.2, 0.5, "light in the middle of panes"),
    ),
    _spec(
        drawings.paper_collage,
        "paper collage | cut paper picture | layered paper cut-out",
        ("levels", 3.0, 4.4, "steps per colour channel"),
        ("shadow", 0.5, 0.7, "darkness of the cast shadow"),
        ("rim", 1.4, 2.2, "width of the white edge"),
    ),
    _spec(
        drawings.low_poly,
        "low poly art | low-polygon render | faceted triangle art",
        ("facet", 4.4, 5.9, "side of a triangle"),
        ("contrast", 0.25, 0.45, "spread of light between triangles"),
        ("lift", 0.0, 0.05, "light added everywhere"),
    ),
    _spec(
        drawings.cross_stitch,
        "cross-stitch | cross-stitch embroidery | needlework sampler",
        ("cell", 4.6, 5.4, "side of a stitch, rounded to pixels"),
        ("thread", 0.27, 0.34, "width of the thread, as a share of the stitch"),
        ("cloth", 0.9, 1.0, "brightness of the cloth"),
    ),
    _spec(
        drawings.knitted,
        "knitted fabric | woollen knit | knitting pattern",
        ("gauge", 4.6, 6.4, "side of a loop, rounded to pixels"),
        ("slope", 0.4, 0.6, "lean of the loops"),
        ("fuzz", 0.1, 0.25, "stray hairs"),
    ),
    # Prints
    _spec(
        prints.halftone,
        "halftone print | newspaper print | newsprint photo",
        ("pitch", 3.2, 4.0, "distance of dots"),
        ("angle", 30.0, 60.0, "turn of the screen"),
        ("ink_hue", 0.58, 0.7, "hue of the dark ink"),
    ),
    _spec(
        prints.woodcut,
        "woodcut | woodblock print | linocut",
        ("spacing", 3.6, 4.6, "distance of the cuts"),
        ("waviness", 6.0, 12.0, "bend of the cuts"),
        ("paper_hue", 0.08, 0.12, "hue of the paper"),
    ),
    _spec(
        prints.duotone_poster,
        "duotone poster | screen-printed poster | campaign poster",
        ("hue", 0.53, 0.63, "hue of the dark ink"),
        ("accent", -0.02, 0.04, "hue of the accent"),
        ("threshold", 0.46, 0.54, "tone of the middle step"),
    ),
    _spec(
        prints.risograph,
        "risograph print | riso print | misregistered two-ink zine print",
        ("offset", 1.0, 2.4, "shift between the inks"),
        ("grain", 0.35, 0.6, "grain of the inks"),
        ("second_hue", 0.52, 0.62, "hue of the second ink"),
    ),
    _spec(
        prints.psychedelic,
        "psychedelic art | psychedelic rainbow art | acid rainbow colours",
        ("bands", 1.4, 2.2, "rainbows from black to white"),
        ("twist", 1.4, 2.4, "rainbows across the ground"),
        ("saturation", 0.85, 1.0, "strength of colour"),
    ),
    # Screens
    _spec(
        prints.pixel_art,
        "pixel art | 8-bit sprite | retro game sprite",
        ("cell", 2.6, 3.4, "side of a pixel, rounded to pixels"),
        ("levels", 3.6, 5.4, "steps per colour channel"),
        ("vividness", 1.3, 1.7, "strength of colour"),
    ),
    _spec(
        prints.handheld_lcd,
        "handheld console screen | four-shade LCD | dithered olive game screen",
        ("hue", 0.18, 0.22, "hue of the screen"),
        ("contrast", 1.1, 1.4, "contrast of the screen"),
        ("dither", 0.28, 0.4, "strength of the dither"),
    ),
    _spec(
        prints.television,
        "old television picture | cathode-ray television | CRT screen",
        ("scanline", 0.4, 0.65, "darkness of the lines"),
        ("triad", 0.25, 0.4, "strength of the colour stripes"),
        ("corner", 1.0, 1.06, "radius of the tube, half-sides"),
    ),
    _spec(
        prints.glitch,
        "glitch art | corrupted video | digital glitch",
        ("shift", 1.6, 3.4, "split of the colour channels"),
        ("tear", 4.0, 8.0, "largest jump of torn rows"),
        ("bars", 0.15, 0.3, "share of rows with bars"),
    ),
    # Lenses and lights
    _spec(
        prints.sepia,
        "sepia photograph | vintage photograph | antique brown photo",
        ("hue", 0.065, 0.095, "hue of the brown"),
        ("fade", 0.05, 0.2, "lift of the blacks"),
        ("grain", 0.05, 0.15, "film grain"),
    ),
    _spec(
        prints.thermal,
        "thermal image | heat camera picture | infrared thermogram",
        ("heat", 0.66, 0.78, "warmth of the subject"),
        ("softness", 0.8, 1.4, "blur"),
        ("ambient", 0.04, 0.14, "warmth of the ground"),
    ),
    _spec(
        prints.x_ray,
        "x-ray | radiograph | x-ray film",
        ("hue", 0.54, 0.62, "hue of the film"),
        ("rim", 0.6, 0.9, "brightness of the rims"),
        ("exposure", 0.6, 0.8, "brightness of the body"),
    ),
    _spec(
        prints.night_vision,
        "night vision | night-vision goggles view | green phosphor view",
        ("gain", 0.7, 0.9, "amplification"),
        ("noise", 0.2, 0.35, "grain"),
        ("aperture", 1.05, 1.2, "radius of the eyepiece, half-sides"),
    ),
    _spec(
        prints.neon,
        "neon sign | neon lights | glowing neon tubes",
        ("glow", 1.2, 1.9, "brightness of the halo"),
        ("tube", 0.8, 1.4, "width of the tubes"),
        ("night_hue", 0.66, 0.78, "hue of the dark"),
    ),
    _spec(
        prints.relief,
        "stone relief | carved stone | bas-relief",
        ("depth", 2.2, 3.2, "depth of the carving"),
        ("light_deg", 30.0, 60.0, "where the light comes from"),
        ("stone_hue", 0.07, 0.14, "hue of the stone"),
    ),
    _spec(
        prints.fluted_glass,
        "fluted glass | ribbed glass view | reeded glass distortion",
        ("rib", 6.5, 9.0, "width of a rib"),
        ("bend", 0.7, 1.1, "strength of the lens"),
        ("shine", 0.4, 0.6, "light on the seams"),
    ),
)

STYLES: dict[str, StyleSpec] = {spec.name: spec for spec in _SPECS}
STYLE_NAMES: tuple[str, ...] = tuple(STYLES)


def get_spec(style_or_name: Style | str) -> StyleSpec:
    """Looks a style up.

    Raises:
        StyleError: the name is unknown; the message gives the closest one.
    """
    name = style_or_name.name if isinstance(style_or_name, Style) else style_or_name
    spec = STYLES.get(name)
    if spec is not None:
        return spec
    close = difflib.get_close_matches(str(name).lower().replace("_", " "), STYLE_NAMES, n=1, cutoff=0.0)
    raise StyleError(f"Unknown style {name!r}: did you mean {close[0]!r}? All names are in STYLE_NAMES.")


def sample_style(rng: np.random.Generator, name: str) -> Style:
    """Draws the parameters of the style called `name` from their ranges."""
    spec = get_spec(name)
    values = rng.uniform(size=len(spec.params))
    params = ((p.name, float(p.low + (p.high - p.low) * v)) for p, v in zip(spec.params, values, strict=True))
    return Style(spec.name, tuple(params))


def apply_style(style: Style, image: np.ndarray, mask: np.ndarray, depth: np.ndarray, seed: int) -> np.ndarray:
    """Renders a picture in a style.

    Args:
        style: what to render, from `sample_style`.
        image: uint8 RGB [S, S, 3], S >= 32.
        mask: bool [S, S], the union of the subjects.
        depth: float32 [S, S].
        seed: non-negative; places the texture. Equal arguments give equal bytes.

    Returns:
        uint8 RGB [S, S, 3], a new array.

    Raises:
        StyleError: the style or one of its parameters is unknown or missing, or the arrays do not fit.
    """
    spec = get_spec(style)
    _check(spec, style, image, mask, depth)
    canvas = Canvas(image, mask, depth, np.random.default_rng(seed))
    picture = spec.render(canvas, **dict(style.params))
    if picture.dtype == np.uint8:
        return picture
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


def _check(spec: StyleSpec, style: Style, image: np.ndarray, mask: np.ndarray, depth: np.ndarray) -> None:
    """Raises StyleError for what `apply_style` cannot render."""
    expected = tuple(p.name for p in spec.params)
    if tuple(name for name, _ in style.params) != expected:
        raise StyleError(f"Style {spec.name!r} takes the parameters {expected}; make it with sample_style.")
    size = image.shape[0]
    if image.shape != (size, size, 3) or image.dtype != np.uint8 or size < MIN_SIZE_PX:
        raise StyleError(f"The image must be uint8 [S, S, 3] with S >= {MIN_SIZE_PX}, not {image.dtype} {image.shape}.")
    if mask.shape != (size, size) or mask.dtype != np.bool_ or depth.shape != (size, size):
        raise StyleError(
            f"The mask must be bool and mask and depth [{size}, {size}], not {mask.shape} and {depth.shape}."
        )


def style_phrases(style_or_name: Style | str) -> tuple[str, ...]:
    """Noun phrases without article, such as "watercolour painting", the plainest first."""
    return get_spec(style_or_name).phrases
