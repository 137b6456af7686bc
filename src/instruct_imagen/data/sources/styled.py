"""Styled generation (Table 1): a style picture and a caption make a picture of the caption in that style."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ..example import Example
from ..report import DataError, Report
from .building import Builder, Shown, as_phrase
from .groups import Group, Member, others, read_groups, targets
from .options import Embedder, SourceOptions
from .reading import caption_beside, folders_in, picture_files

LAYOUT = (
    'Groups in one style: a .jsonl file with one group a line, {"style": "watercolour painting", "images": [{"image": '
    '"a.jpg", "caption": "a fox"}, ...]}; or a folder for each style, named for it, with NAME.jpg and its caption in '
    "NAME.txt. The paper's set is not public; such groups are drawn by style-tuned models (StyleDrop) or gathered. "
    "Captions tell the content only."
)


def style_examples(path: Path, report: Report, options: SourceOptions) -> Iterator[Example]:
    """Another picture in the style under marker 1, the captioned picture as the target.

    Where the options have an embedder, a picture must be like its style reference, but no copy of it, and like its
    caption.

    Raises:
        DataError: nothing at the path is in a known layout.
    """
    builder = Builder("style", report, options)
    for group in builder.mine(read_groups(path, "style", builder.listing) if path.is_file() else _style_folders(path)):
        for place, target in targets(group, builder):
            caption = as_phrase(group.members[place].caption)
            if not caption:
                builder.damaged("no caption", f"{group.key}: {group.members[place].name}")
                continue
            for key, rng in builder.turns(group.key, place):
                for style in others(group, place, rng, builder, 1):
                    if options.embedder is not None and not _passes(
                        builder, options.embedder, style, target, caption, key
                    ):
                        continue
                    shown = Shown("style", (style,), {"style": group.words} if group.words else {})
                    yield from builder.finish(key, rng, target, {"caption": caption}, [shown])


def _passes(
    builder: Builder, embedder: Embedder, style: Image.Image, target: Image.Image, caption: str, key: str
) -> bool:
    """Whether the picture is like its style and its caption; if not, the reason is counted."""
    options = builder.options
    style_vector, vector = embedder.images([style, target])
    alike, told = float(style_vector @ vector), float(vector @ embedder.texts([caption])[0])
    if alike < options.min_style_similarity:
        builder.drop("style unlike its reference", key)
    elif alike > options.max_style_similarity:
        builder.drop("style reference is nearly the target", key)
    elif told < options.min_text_similarity:
        builder.drop("picture unlike its caption", key)
    else:
        return True
    return False


def _style_folders(path: Path) -> Iterator[Group]:
    folders = [(folder, picture_files(folder)) for folder in folders_in(path)]
    if not any(names for _, names in folders):
        raise DataError(f"{path} holds no folders of pictures, one for each style, and is no .jsonl file of groups.")
    for folder, names in folders:
        members = tuple(Member(name, caption_beside(folder, name)) for name in names)
        if members:
            yield Group(folder.name, folder, " ".join(folder.name.replace("_", " ").split()).lower(), members)
