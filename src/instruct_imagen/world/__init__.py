"""The glyph world: named pictures in rendered scenes whose every subject, place, style, depth and mask is known."""

from instruct_imagen.world.captions import (
    GENERIC_WORDS,
    caption,
    ground_phrase,
    portrait_caption,
    subject_phrase,
    with_article,
)
from instruct_imagen.world.controls import GRANULARITIES, canny_edges, depth_map, edge_map, mask_map, sketch
from instruct_imagen.world.faces import (
    PERSON_WORDS,
    Identity,
    Portrait,
    Portraits,
    PortraitSampler,
    describe,
    identity_of,
    parse_portrait,
)
from instruct_imagen.world.glyph_names import GROUP_CODE_POINTS
from instruct_imagen.world.glyphs import DEFAULT_GROUPS, Glyph, GlyphPack, WorldError, find_font, load_pack
from instruct_imagen.world.grounds import COLOURS, GROUND_KINDS, Ground, paint_ground, sample_ground
from instruct_imagen.world.render import Render, render
from instruct_imagen.world.scenes import RELATIONS, Scene, SceneSampler, Subject, relation_holds
from instruct_imagen.world.splits import (
    HELD_OUT_STYLES,
    Split,
    glyph_split,
    glyphs_of,
    style_split,
    styles_of,
)
from instruct_imagen.world.styles import STYLE_NAMES, Style, apply_style, sample_style, style_phrases

__all__ = [
    "COLOURS",
    "DEFAULT_GROUPS",
    "GENERIC_WORDS",
    "GRANULARITIES",
    "GROUND_KINDS",
    "GROUP_CODE_POINTS",
    "HELD_OUT_STYLES",
    "PERSON_WORDS",
    "RELATIONS",
    "STYLE_NAMES",
    "Glyph",
    "GlyphPack",
    "Ground",
    "Identity",
    "Portrait",
    "PortraitSampler",
    "Portraits",
    "Render",
    "Scene",
    "SceneSampler",
    "Split",
    "Style",
    "Subject",
    "WorldError",
    "apply_style",
    "canny_edges",
    "caption",
    "depth_map",
    "describe",
    "edge_map",
    "find_font",
    "glyph_split",
    "glyphs_of",
    "ground_phrase",
    "identity_of",
    "load_pack",
    "mask_map",
    "paint_ground",
    "parse_portrait",
    "portrait_caption",
    "relation_holds",
    "render",
    "sample_ground",
    "sample_style",
    "sketch",
    "style_phrases",
    "style_split",
    "styles_of",
    "subject_phrase",
    "with_article",
]
