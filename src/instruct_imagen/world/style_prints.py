"""Styles made by a machine: prints, screens, lenses and lights.

Same contract as `style_drawings`: a `Canvas` and continuous parameters in,
float32 RGB [S, S, 3] out.
"""

from __future__ import annotations

import cv2
import numpy as np

from . import style_textures as tx
from .style_textures import Canvas

# --- prints ------------------------------------------------------------------


def halftone(canvas: Canvas, *, pitch: float, angle: float, ink_hue: float) -> np.ndarray:
    """One dark ink in round dots whose size gives the tone, as in a newspaper."""
    tone = np.clip((1 - canvas.grey()) * 1.15 - 0.05, 0.04, 0.95)
    tone = np.where(canvas.mask, tone + 0.12, tone * 0.5) + 0.45 * tx.subject_outline(canvas)
    tone = np.minimum(tone, 0.95)
    screen = 0.5 * (tx.stripes(canvas, pitch, angle) + tx.stripes(canvas, pitch, angle + 90))
    dots = np.clip((tone - 1 + screen) * 5 + 0.5, 0, 1)
    return tx.blend(tx.rgb(0.12, 0.06, 0.93), tx.rgb(ink_hue, 0.55, 0.22), dots)


def woodcut(canvas: Canvas, *, spacing: float, waviness: float, paper_hue: float) -> np.ndarray:
    """Mostly black block with wavy cut lines on tan paper."""
    bend = waviness * (canvas.window(tx.smooth_noise(canvas.size, 14, 14, 71)) - 0.5)
    cuts = tx.stripes(canvas, spacing, 8, bend)
    tone = canvas.grey() * np.where(canvas.mask, np.float32(1.15), np.float32(0.62))
    light = np.clip((tone - cuts * 0.8 - 0.06) * 6 + 0.3, 0, 1)
    halo = tx.subject_outline(canvas, 2.6)
    light = np.where(canvas.mask, light, np.maximum(light, halo))
    light *= 1 - tx.colour_edges(canvas, 0.22, 5.0) * canvas.mask
    return tx.blend(tx.rgb(0.07, 0.35, 0.09), tx.rgb(paper_hue, 0.42, 0.86), light)


def duotone_poster(canvas: Canvas, *, hue: float, accent: float, threshold: float) -> np.ndarray:
    """Four hard-edged flat inks from dark through a warm accent to cream."""
    tone = tx.blur(canvas.grey(), 0.8 * canvas.unit) + np.where(canvas.mask, np.float32(0.05), np.float32(-0.05))
    inks = np.stack(
        [
            tx.rgb(hue, 0.75, 0.26),
            tx.rgb(accent, 0.82, 0.84),
            tx.rgb(hue, 0.35, 0.68),
            tx.rgb(0.12, 0.22, 0.96),
        ]
    )
    steps = (tone > threshold - 0.16).astype(np.intp) + (tone > threshold) + (tone > threshold + 0.2)
    return inks[steps] * (1 - 0.54 * tx.subject_outline(canvas, 0.7))[..., None]


def risograph(canvas: Canvas, *, offset: float, grain: float, second_hue: float) -> np.ndarray:
    """Two bright grainy inks, printed out of register, on white paper."""
    colour = canvas.colour()
    noise = canvas.window(tx.white_noise(canvas.size, 8))
    other = canvas.window(tx.white_noise(canvas.size, 9))
    pink = np.clip((1 - colour[..., 1] - grain * noise - 0.12) * 2.6, 0, 1)
    blue = np.clip((1 - colour[..., 0] - grain * other - 0.12) * 2.6, 0, 1)
    shift = canvas.px(offset)
    blue = np.roll(blue, (shift, -shift), (0, 1))
    page = tx.blend(tx.rgb(0.12, 0.03, 0.98), tx.rgb(0.94, 0.66, 1.0), pink)
    return page * tx.blend(np.ones(3, np.float32), tx.rgb(second_hue, 0.85, 0.75), blue)


def psychedelic(canvas: Canvas, *, bands: float, twist: float, saturation: float) -> np.ndarray:
    """Rainbow bands that follow the tone and swirl through the ground."""
    tone = tx.blur(canvas.grey(), 1.0 * canvas.unit)
    swirl = canvas.window(tx.smooth_noise(canvas.size, 22, 22, 81))
    hue = bands * tone + np.where(canvas.mask, np.float32(0.5), twist * swirl)
    turn = (hue + np.float32(canvas.rng.random()))[..., None] * np.float32(2 * np.pi)
    wheel = 0.5 + 0.62 * np.cos(turn + np.array([0, 2.1, 4.2], np.float32))
    colour = 1 - saturation + saturation * np.clip(wheel, 0, 1)
    return colour * (1 - tx.subject_outline(canvas, 1.3)[..., None])


# --- screens -----------------------------------------------------------------


def pixel_art(canvas: Canvas, *, cell: float, levels: float, vividness: float) -> np.ndarray:
    """Coarse square pixels, few colours and a dark outline."""
    side = canvas.px(cell)
    colour = tx.saturate(tx.blocks(canvas.colour(), side), vividness)
    inside = (tx.blocks(canvas.subject(), side) > 0.5).astype(np.uint8)
    outline = inside - cv2.erode(inside, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)), borderValue=0)
    flat = tx.posterise(colour, levels) * (1 - 0.6 * outline[..., None].astype(np.float32))
    return tx.enlarge(flat, side, canvas.size)


_BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.float32) / 16 - 0.47


def handheld_lcd(canvas: Canvas, *, hue: float, contrast: float, dither: float) -> np.ndarray:
    """Four shades of olive, dithered, on a coarse grid of dots."""
    side = canvas.px(2)
    tone = tx.blocks(canvas.grey(), side)
    inside = (tx.blocks(canvas.subject(), side) > 0.5).astype(np.uint8)
    ring = inside - cv2.erode(inside, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)), borderValue=0)
    repeats = -(-len(tone) // 4)
    pattern = np.tile(_BAYER, (repeats, repeats))[: len(tone), : len(tone)]
    level = np.where(inside, np.float32(0.5), np.float32(0.66))  # a lighter ground sets the subject off
    tone = np.clip((tone - 0.5) * contrast + level + dither * pattern, 0, 1) * (1 - ring)
    shades = np.stack([tx.rgb(hue + 0.09, 0.65, 0.17), tx.rgb(hue, 0.72, 0.74)])
    return tx.enlarge(tx.ramp(np.round(tone * 3) / 3, shades), side, canvas.size)


def television(canvas: Canvas, *, scanline: float, triad: float, corner: float) -> np.ndarray:
    """Colour tube: red, green and blue stripes, dark lines and rounded corners."""
    size = canvas.size
    step = canvas.px(1)
    lines = np.where((np.arange(size) // step) % 3 == 2, np.float32(1 - scanline), np.float32(1.08))
    stripe = (np.arange(size) // step) % 3
    mask = np.where(stripe[:, None] == np.arange(3), np.float32(1 + triad), np.float32(1 - triad))
    bloom = canvas.colour() * 1.2 + 0.25 * tx.blur(canvas.colour(), 2.5 * canvas.unit)
    radius = tx.tube_radius(size)
    tube = np.clip((corner - radius) * 9, 0, 1) * (1.05 - 0.22 * radius * radius)
    return bloom * mask * (lines[:, None] * tube)[..., None]


def glitch(canvas: Canvas, *, shift: float, tear: float, bars: float) -> np.ndarray:
    """Torn rows, split colour channels and bright digital bars."""
    size = canvas.size
    side = canvas.px(4)
    count = -(-size // side)
    chance = canvas.rng.random((3, count)).astype(np.float32)
    jump = np.where(chance[0] < 0.4, (chance[1] - 0.5) * 2 * tear * canvas.unit, 0)
    rows = np.repeat(np.round(jump).astype(np.int64), side)[:size]
    split = canvas.px(shift)
    columns = np.arange(size)[None, :] + rows[:, None]
    picture = canvas.image
    lines = np.arange(size)[:, None]
    planes = [picture[lines, (columns + move) % size, c] for c, move in enumerate((-split, 0, split))]
    torn = np.stack(planes, axis=-1).astype(np.float32) * (1 / 255)
    bar = np.repeat(chance[2] < bars, side)[:size] & (np.arange(size) % side < max(1, side // 2))
    tints = np.stack([tx.rgb(h, 0.9, 1.0) for h in (0.5, 0.86)])
    mix = (0.75 * bar)[:, None] * (((np.arange(size)[None, :] + 9 * rows[:, None]) // side) % 5 < 3)
    torn = tx.blend(torn, tints[(lines // side) % 2], mix.astype(np.float32))
    dark = np.where((np.arange(size) // canvas.px(1)) % 2 == 0, np.float32(0.78), np.float32(1.05))
    return torn * dark[:, None, None]


# --- lenses and lights -------------------------------------------------------


def sepia(canvas: Canvas, *, hue: float, fade: float, grain: float) -> np.ndarray:
    """Old brown photograph with dark corners and a pale card border."""
    tone = tx.blur(canvas.grey(), 0.5 * canvas.unit)
    tone = fade + (1 - fade) * tone + grain * (canvas.window(tx.white_noise(canvas.size, 4)) - 0.5)
    tone = tone * (1.12 - 0.42 * tx.vignette(canvas.size) ** 2)
    stops = np.stack([tx.rgb(hue, 0.75, 0.16), tx.rgb(hue + 0.01, 0.52, 0.62), tx.rgb(hue + 0.03, 0.24, 0.96)])
    card = np.clip(3.2 - tx.border_distance(canvas.size), 0, 1)
    return tx.blend(tx.ramp(np.clip(tone, 0, 1), stops), tx.rgb(hue + 0.03, 0.14, 0.93), card)


def thermal(canvas: Canvas, *, heat: float, softness: float, ambient: float) -> np.ndarray:
    """Heat camera: a warm blurred subject over cold violet and blue."""
    inside = tx.blur(canvas.subject(), 1.2 * canvas.unit)
    tone = tx.blur(canvas.grey(), softness * canvas.unit)
    level = ambient + 0.22 * tone + inside * (heat - 0.4 + 0.38 * tone)
    stops = np.array(
        [
            [0.0, 0.0, 0.12],
            [0.13, 0.0, 0.45],
            [0.5, 0.0, 0.6],
            [0.86, 0.13, 0.36],
            [1, 0.5, 0.05],
            [1, 0.87, 0.2],
            [1, 1, 0.9],
        ],
        np.float32,
    )
    return tx.ramp(np.clip(level, 0, 1), stops)


def x_ray(canvas: Canvas, *, hue: float, rim: float, exposure: float) -> np.ndarray:
    """Pale see-through subject with bright rims on a blue-black film."""
    inside = canvas.subject()
    near = tx.blur(inside, 2.2 * canvas.unit)
    thickness = inside * (1.0 - near) * 2 * rim
    body = inside * exposure * (0.25 + 0.6 * (1 - canvas.grey()))
    bones = inside * 0.55 * tx.colour_edges(canvas, 0.08, 3.0)
    ground = (1 - inside) * (0.17 * (1 - canvas.grey()) + 0.12 * near)
    level = np.clip(tx.blur(body + bones + thickness + ground, 0.5 * canvas.unit), 0, 1)
    stops = np.stack([tx.rgb(hue, 0.9, 0.06), tx.rgb(hue, 0.5, 0.5), tx.rgb(hue, 0.08, 1.0)])
    return tx.ramp(level, stops)


def night_vision(canvas: Canvas, *, gain: float, noise: float, aperture: float) -> np.ndarray:
    """Grainy green phosphor seen through a round eyepiece."""
    tone = tx.blur(canvas.grey() * np.where(canvas.mask, np.float32(1.1), np.float32(0.5)), 0.6 * canvas.unit) * gain
    tone = tone + 0.25 * tx.blur(tone, 3.0 * canvas.unit) + 0.1 * canvas.mask
    tone = tone + noise * (canvas.window(tx.white_noise(canvas.size, 10)) - 0.5)
    tone = tone * np.clip((aperture - tx.vignette(canvas.size)) * 6, 0, 1)
    stops = np.array([[0, 0.03, 0.01], [0.02, 0.55, 0.12], [0.55, 1.0, 0.5]], np.float32)
    return tx.ramp(np.clip(tone, 0, 1), stops)


def neon(canvas: Canvas, *, glow: float, tube: float, night_hue: float) -> np.ndarray:
    """Glowing coloured tubes along the edges, in the dark."""
    lines = np.maximum(tx.subject_outline(canvas, tube), tx.colour_edges(canvas, 0.16, 3.0) * 0.8)
    lines *= np.where(canvas.mask | (lines >= 1), np.float32(1.0), np.float32(0.55))
    colour = cv2.dilate(canvas.colour(), np.ones((3, 3), np.uint8))
    pure = tx.saturate(colour, 4.0)
    pure = pure / np.maximum(pure.max(axis=2, keepdims=True), 0.25)
    light = pure * lines[..., None]
    halo = tx.blur(light, 2.2 * canvas.unit) * glow + tx.blur(light, 0.7 * canvas.unit) * 0.6
    night = tx.rgb(night_hue, 0.8, 0.10) + canvas.colour() * 0.06
    return night + halo + light * 0.75 + 0.15 * lines[..., None]


def relief(canvas: Canvas, *, depth: float, light_deg: float, stone_hue: float) -> np.ndarray:
    """Carved stone: one material, lit from one side."""
    height = tx.blur(canvas.grey(), 0.6 * canvas.unit) * 0.6 + tx.blur(canvas.subject(), 1.0 * canvas.unit) * 1.2
    angle = np.deg2rad(light_deg)
    across = cv2.Scharr(height, cv2.CV_32F, 1, 0, scale=1 / 32)
    down = cv2.Scharr(height, cv2.CV_32F, 0, 1, scale=1 / 32)
    slope = (across * np.float32(np.cos(angle)) + down * np.float32(np.sin(angle))) * np.float32(canvas.unit)
    speckle = canvas.window(tx.smooth_noise(canvas.size, 1.5, 1.5, 14)) - 0.5
    light = 0.62 + np.clip(depth * slope, -0.5, 0.36) + 0.07 * speckle + 0.05 * canvas.mask
    return light[..., None] * tx.rgb(stone_hue, 0.12, 1.0)


def fluted_glass(canvas: Canvas, *, rib: float, bend: float, shine: float) -> np.ndarray:
    """Seen through upright ribs of glass: repeated slices with bright seams."""
    size = canvas.size
    place = np.arange(size, dtype=np.float32) / canvas.unit
    within = ((place + canvas.rng.uniform(0, rib)) % rib) / rib - 0.5
    source = place + bend * rib * within
    columns = np.clip(np.round(source * canvas.unit), 0, size - 1).astype(np.int64)
    soft = cv2.GaussianBlur(canvas.colour()[:, columns], (1, 2 * canvas.px(1) + 1), 0)
    light = 1.06 - 1.1 * shine * np.clip(within, 0, 1) + shine * np.clip(-within - 0.25, 0, 1) * 2.6
    cool = np.array([0.93, 1.0, 1.02], np.float32)
    return (0.06 + 0.92 * soft) * cool * light[None, :, None].astype(np.float32)
