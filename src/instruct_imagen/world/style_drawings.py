"""Styles made by hand: drawn, painted, cut and stitched.

Every function takes a `Canvas` and its own continuous parameters and returns
the picture as float32 RGB [S, S, 3], nominally in [0, 1].  The ranges of the
parameters stand in `styles.py`.
"""

from __future__ import annotations

import cv2
import numpy as np

from . import style_textures as tx
from .style_cells import brush_cells, triangle_cells, view_cells, voronoi_cells
from .style_textures import Canvas

# --- drawn -------------------------------------------------------------------


def pencil(canvas: Canvas, *, darkness: float, slant: float, grain: float) -> np.ndarray:
    """Grey graphite lines and slanted shading on white paper."""
    shade = 1 - canvas.grey()
    hatch = tx.stripes(canvas, 2.6, slant, 2 * canvas.window(tx.smooth_noise(canvas.size, 9, 9)))
    lines = tx.drawn_lines(canvas)
    weight = np.where(canvas.mask, np.float32(1.0), np.float32(0.55))
    tone = shade * weight * (0.3 + 0.7 * hatch)
    tone = np.maximum(tone, 0.85 * lines) * darkness
    tone *= 1 - grain * canvas.window(tx.white_noise(canvas.size))
    return tx.blend(tx.rgb(0.1, 0.02, 0.98), tx.rgb(0.6, 0.05, 0.18), tone)


def ink(canvas: Canvas, *, spacing: float, slant: float, weight: float) -> np.ndarray:
    """Black pen lines and cross-hatching on cream paper, no grey."""
    grey = canvas.grey()
    # Lines swell with the dark and stop short of the subject's outline.
    dark = weight * np.where(canvas.mask, 0.68 - grey, 0.58 - 0.5 * grey)
    first = tx.stripes(canvas, spacing, slant) > 1 - dark
    second = tx.stripes(canvas, spacing, slant - 90) > 1.36 - dark
    black = (first | second) & (tx.subject_outline(canvas, 3.4) == 0) | (grey < 0.12) & canvas.mask
    black |= tx.drawn_lines(canvas, inner=1.0, width=1.2, threshold=0.13) > 0.45
    return tx.blend(tx.rgb(0.12, 0.07, 0.99), tx.rgb(0.66, 0.3, 0.06), black.astype(np.float32))


def charcoal(canvas: Canvas, *, smudge: float, darkness: float, grain: float) -> np.ndarray:
    """Broad black smears on rough grey paper."""
    tone = 1 - tx.blur(canvas.grey(), smudge * canvas.unit)
    tone = np.where(canvas.mask, 0.1 + 0.85 * tone, 0.12 + 0.36 * tone)
    lines = 1.2 * tx.blur(tx.subject_outline(canvas, 1.2), 0.5 * canvas.unit)
    lines = np.maximum(lines, 0.5 * tx.colour_edges(canvas) * canvas.mask)
    tooth = canvas.window(tx.smooth_noise(canvas.size, 1.6, 1.6))
    smear = tx.streaks(canvas, 16, 3, 50)
    load = darkness * tone * (0.6 + 0.8 * smear) * (1 + grain * (tooth - 0.5)) + lines
    covered = np.clip(load, 0.02, 1)
    return tx.blend(tx.rgb(0.1, 0.07, 0.72), tx.rgb(0.1, 0.05, 0.04), covered)


def chalk(canvas: Canvas, *, board_hue: float, coverage: float, grain: float) -> np.ndarray:
    """Powdery pastel colours on a dark school board."""
    pastel = 0.35 + 0.65 * tx.saturate(canvas.colour(), 1.2)
    tooth = canvas.window(tx.smooth_noise(canvas.size, 1.3, 1.3, 3))
    drag = tx.streaks(canvas, 10, 1.5, 35, 4)
    fill = np.where(canvas.mask, np.float32(coverage), np.float32(0.42 * coverage)) * (0.35 + canvas.grey())
    dust = np.clip((fill - grain * (0.5 * tooth + 0.5 * drag)) * 3, 0, 0.75)
    lines = tx.drawn_lines(canvas, inner=0.5, width=1.3) * np.clip(1.3 - grain * tooth, 0, 1)
    board = tx.rgb(board_hue, 0.42, 0.23) * (0.9 + 0.25 * drag[..., None])
    return tx.blend(tx.blend(board, pastel, dust), tx.rgb(0.13, 0.05, 0.96), lines)


def crayon(canvas: Canvas, *, slant: float, wax: float, stroke: float) -> np.ndarray:
    """Strong waxy strokes that leave flecks of white paper."""
    colour = tx.saturate(tx.blur(canvas.colour(), 0.8 * canvas.unit), 1.7)
    scribble = tx.streaks(canvas, 13, round(stroke * 4) / 4, slant, 7)
    tooth = canvas.window(tx.smooth_noise(canvas.size, 1.2, 1.2, 8))
    load = np.where(canvas.mask, np.float32(wax), np.float32(wax - 0.13))
    covered = np.clip((load - 0.7 * scribble - 0.3 * tooth) * 6, 0, 1)
    covered = np.maximum(covered, 0.9 * tx.subject_outline(canvas, 1.5))
    waxy = colour * (1.02 - 0.35 * tx.subject_outline(canvas, 1.5)[..., None])
    return tx.blend(tx.rgb(0.12, 0.03, 0.99), waxy, covered)


def comic(canvas: Canvas, *, outline: float, dots: float, levels: float) -> np.ndarray:
    """Flat bright colours, bold black outlines and printed dots in the ground."""
    soft = cv2.medianBlur(canvas.image, 2 * canvas.px(1) + 1).astype(np.float32) * (1 / 255)
    flat = tx.posterise(tx.saturate(np.clip((soft - 0.5) * 1.25 + 0.58, 0, 1), 1.9), levels)
    screen = (tx.stripes(canvas, dots, 45) + tx.stripes(canvas, dots, -45)) > 1.2
    dotted = screen & ~canvas.mask
    flat = flat * (1 - 0.38 * dotted[..., None].astype(np.float32))
    lines = np.maximum(tx.subject_outline(canvas, outline), tx.colour_edges(canvas, 0.28, 5.0) * canvas.mask)
    return flat * (1 - lines[..., None])


def blueprint(canvas: Canvas, *, hue: float, spacing: float, fill: float) -> np.ndarray:
    """White construction lines and a fine grid on blue paper."""
    rows, columns = tx.grid(canvas.size)
    shift = canvas.rng.uniform(0, spacing, 2).astype(np.float32)
    ruled = ((rows + shift[0]) % spacing < 1) | ((columns + shift[1]) % spacing < 1)
    fibre = canvas.window(tx.smooth_noise(canvas.size, 3, 3, 2))
    light = 0.22 * ruled + fill * canvas.grey() * np.where(canvas.mask, 1.0, 0.3).astype(np.float32)
    light = np.maximum(light, tx.drawn_lines(canvas, inner=0.75))
    paper = tx.rgb(hue, 0.82, 0.58) * (0.92 + 0.14 * fibre[..., None])
    return tx.blend(paper, tx.rgb(hue, 0.06, 1.0), light)


def contour_map(canvas: Canvas, *, interval: float, tint: float, line: float) -> np.ndarray:
    """Brown height lines over green, buff and white tints, as on a walker's map."""
    hills = 1.3 * canvas.window(tx.smooth_noise(canvas.size, 20, 20, 17))
    height = tx.blur(canvas.grey(), 1.1 * canvas.unit) * np.where(canvas.mask, np.float32(1.0), np.float32(0.35))
    height += np.where(canvas.mask, np.float32(0), 0.55 * hills)
    stops = np.stack([tx.rgb(0.30 + tint, 0.42, 0.66), tx.rgb(0.20 + tint, 0.30, 0.88), tx.rgb(0.13, 0.22, 0.98)])
    band = np.floor(height / interval).astype(np.float32)
    side = canvas.px(1) + 1
    lines = cv2.morphologyEx(band, cv2.MORPH_GRADIENT, np.ones((side, side), np.uint8)) > 0
    land = tx.ramp(np.clip(band * interval * 1.15, 0, 1), stops)
    land = tx.blend(land, tx.rgb(0.07, 0.75, 0.55), line * lines.astype(np.float32))
    return tx.blend(land, tx.rgb(0.58, 0.85, 0.62), tx.subject_outline(canvas, 1.0))


# --- painted -----------------------------------------------------------------


def watercolour(canvas: Canvas, *, wash: float, bleed: float, margin: float) -> np.ndarray:
    """Pale washes with dark rims that fade into white paper at the border."""
    size = canvas.size
    rows, columns = tx.grid(size)
    drift = canvas.window(tx.smooth_noise(size, 6, 6, 11)) - 0.5
    side = canvas.window(tx.smooth_noise(size, 6, 6, 12)) - 0.5
    soft = tx.blur(canvas.colour(), 0.9 * canvas.unit)
    flow = cv2.remap(
        soft,
        (columns + bleed * side) * np.float32(canvas.unit),
        (rows + bleed * drift) * np.float32(canvas.unit),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    pool = canvas.window(tx.smooth_noise(size, 12, 12, 13))
    density = 0.48 + 0.34 * pool - wash * 0.3 + 0.22 * canvas.mask
    rim = tx.colour_edges(canvas, 0.16, 1.5)
    paint = 1 - (1 - tx.saturate(flow, 1.25)) * density[..., None]
    paint *= 1 - 0.28 * rim[..., None]
    paper = tx.border_distance(size) + 6 * (pool - 0.5) + 4 * drift
    reach = np.clip((paper - margin) * 0.5 + 2.5 * canvas.mask, 0, 1)
    tooth = 0.97 + 0.03 * canvas.window(tx.white_noise(size, 2))
    return tx.blend(tx.rgb(0.12, 0.02, 1.0), paint, reach) * tooth[..., None]


def oil(canvas: Canvas, *, length: float, relief: float, richness: float) -> np.ndarray:
    """Overlapping dabs of thick paint with bristle marks and varnished colour."""
    stroke = round(length)
    dabs = view_cells(canvas, brush_cells(canvas.size, stroke, 0.45 * stroke, 21))
    colour = dabs.sample(tx.blur(canvas.colour(), 0.9 * canvas.unit))
    colour = tx.saturate(0.92 * colour + 0.02, richness)
    tone = relief * (dabs.shade - 0.5) * 0.55
    bristle = np.cos(dabs.distance * np.float32(3.6)) * 0.5 * relief
    ridge = np.clip(0.8 - dabs.edge, 0, 1) * relief * np.sign(dabs.distance)
    light = 1 + tone + 0.22 * bristle - 0.45 * ridge
    varnish = np.array([1.0, 0.93, 0.78], np.float32)
    return colour * light[..., None] * varnish


def pointillism(canvas: Canvas, *, dot: float, vividness: float, gap: float) -> np.ndarray:
    """Separate round dots of strong, varied colour on light canvas."""
    paint = tx.saturate(tx.blur(canvas.colour(), 0.6 * canvas.unit), 1.8)
    picture = np.array([0.95, 0.93, 0.86], np.float32)
    for layer in (31, 36):
        dots = view_cells(canvas, voronoi_cells(canvas.size, round(dot * 4) / 4, 0.6, False, layer))
        turn = dots.shade[..., None] * np.float32(2 * np.pi) + np.array([0, 2.1, 4.2], np.float32)
        colour = np.clip(dots.sample(paint) + vividness * np.cos(turn), 0, 1)
        covered = np.clip((dot * (0.58 - gap) - dots.distance) * 1.3 * canvas.unit + 0.5, 0, 1)
        picture = tx.blend(picture, colour, covered)
    return picture


# --- cut, set and stitched ---------------------------------------------------


def mosaic(canvas: Canvas, *, tile: float, grout: float, variety: float) -> np.ndarray:
    """Squarish stone tiles, each of one tone, set in pale grout."""
    cells = voronoi_cells(canvas.size, round(tile * 2) / 2, 0.35, True, 41)
    tiles = view_cells(canvas, cells)
    subject, ground = tx.subject_and_ground(canvas, 1.0 * canvas.unit)
    inside = tiles.sample(np.repeat(canvas.subject()[..., None], 3, 2))
    colour = tiles.sample(ground) * (1 - inside) + tiles.sample(subject) * inside
    colour = tx.saturate(colour, 1.15) * (1 + variety * (tiles.shade - 0.5))[..., None]
    joint = np.clip((grout - tiles.edge) * 3 + 0.5, 0, 1)
    return tx.blend(colour * 0.95, tx.rgb(0.11, 0.08, 0.87), joint)


def stained_glass(canvas: Canvas, *, pane: float, lead: float, glow: float) -> np.ndarray:
    """Large panes of deep glowing colour between black leads."""
    cells = voronoi_cells(canvas.size, round(pane * 2) / 2, 0.9, False, 51)
    panes = view_cells(canvas, cells)
    subject, ground = tx.subject_and_ground(canvas, 1.6 * canvas.unit)
    inside = canvas.subject()
    colour = tx.blend(panes.sample(ground), panes.sample(subject), inside)
    colour = tx.saturate(np.clip(colour * 0.9 + 0.05, 0, 1), 2.6)
    light = 0.62 + 0.5 * panes.shade + glow * np.clip(panes.edge * 0.35, 0, 0.6)
    came = np.clip((lead * (1 - 0.4 * inside) - panes.edge) * 2 + 0.5, 0, 1)
    came = np.maximum(came, tx.subject_outline(canvas, lead))
    return np.clip(colour * light[..., None], 0, 1) * (1 - 0.97 * came[..., None])


def paper_collage(canvas: Canvas, *, levels: float, shadow: float, rim: float) -> np.ndarray:
    """Flat sheets of coloured paper with white cut edges and cast shadows."""
    steps = 2 * canvas.px(1.5) + 1
    soft = cv2.medianBlur(canvas.image, steps).astype(np.float32) * (1 / 255)
    sheets = 0.22 + 0.74 * tx.posterise(tx.saturate(soft, 1.15), levels)
    inside = canvas.mask.astype(np.uint8)
    ring = canvas.px(rim)
    cut = cv2.dilate(inside, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * ring + 1, 2 * ring + 1)))
    fall = canvas.px(2.6)
    cast = np.zeros_like(inside)
    cast[fall:, fall:] = cut[:-fall, :-fall]
    cast = tx.blur(cast.astype(np.float32), 0.9 * canvas.unit)
    ground = sheets * (1 - shadow * cast)[..., None]
    fibre = 0.96 + 0.06 * canvas.window(tx.white_noise(canvas.size, 6))
    page = tx.blend(ground, tx.rgb(0.1, 0.02, 1.0), cut.astype(np.float32))
    return np.where(canvas.mask[..., None], sheets, page) * fibre[..., None]


def low_poly(canvas: Canvas, *, facet: float, contrast: float, lift: float) -> np.ndarray:
    """Flat triangles, each lit a little differently."""
    cells = triangle_cells(canvas.size, round(facet * 2) / 2, 61)
    facets = view_cells(canvas, cells)
    colour = tx.saturate(facets.sample(tx.blur(canvas.colour(), 0.8 * canvas.unit)), 1.35)
    return colour * (1 + contrast * (facets.shade - 0.5))[..., None] + lift


def cross_stitch(canvas: Canvas, *, cell: float, thread: float, cloth: float) -> np.ndarray:
    """One X of coloured thread per cell on pale cloth."""
    side = canvas.px(cell)
    stitch = tx.enlarge(tx.blocks(tx.saturate(canvas.colour(), 1.35), side), side, canvas.size)
    row, column = tx.within_cell(canvas.size, side)
    over, under = np.abs(row - column), np.abs(row + column - 1)
    covered = np.clip((thread - np.minimum(over, under)) * 7, 0, 1)
    light = np.where(over < thread, np.float32(1.08), np.float32(0.78))
    weave = cloth - 0.30 * (np.maximum(np.abs(row - 0.5), np.abs(column - 0.5)) > 0.36) * (over < 0.2)
    return tx.blend(tx.rgb(0.11, 0.10, 1.0) * weave[..., None], stitch * light[..., None], covered)


def knitted(canvas: Canvas, *, gauge: float, slope: float, fuzz: float) -> np.ndarray:
    """Rows of V-shaped loops of wool."""
    side = canvas.px(gauge)
    half = max(1, side // 2)
    wool = tx.enlarge(tx.blocks(tx.saturate(canvas.colour(), 1.25), half), half, canvas.size)
    row, column = tx.within_cell(canvas.size, side)
    lean = (row + slope * np.abs(column - 0.5) * 2) % 1.0
    loop = np.sin(np.float32(np.pi) * lean) * (1 - 0.55 * (np.abs(column - 0.5) > 0.38))
    hairs = canvas.window(tx.white_noise(canvas.size, 5)) - 0.5
    light = 0.45 + 0.72 * loop + fuzz * hairs
    return (0.12 + 0.85 * wool) * light[..., None]
