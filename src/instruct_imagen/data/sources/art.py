"""Art (Table 1: WikiArt, captions name the style): paintings in folders that are named for their style."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..example import Example
from ..report import DataError, Report
from .building import Builder, as_phrase, pick
from .options import SourceOptions
from .reading import folders_in, picture_files, read_captions

LAYOUT = (
    "WikiArt as the ArtGAN authors release it: a folder for each of 27 styles with ARTIST_TITLE.jpg, such as "
    "Abstract_Expressionism/willem-de-kooning_woman-1952.jpg. A captions.csv (file,caption; files as STYLE/NAME.jpg) "
    "may be put beside the folders; otherwise title and artist make the caption."
)
TITLE_SHARE = 0.5  # of pictures without a caption that are described by the bare title
_STYLES = {  # folders whose name makes no adjective; the others are handled by `style_words`
    "Abstract_Expressionism": "abstract expressionist painting",
    "Action_painting": "action painting",
    "Analytical_Cubism": "analytical cubist painting",
    "Art_Nouveau_Modern": "art nouveau painting",
    "Contemporary_Realism": "contemporary realist painting",
    "Cubism": "cubist painting",
    "Expressionism": "expressionist painting",
    "Fauvism": "fauvist painting",
    "Impressionism": "impressionist painting",
    "Mannerism_Late_Renaissance": "mannerist painting",
    "Minimalism": "minimalist painting",
    "Naive_Art_Primitivism": "naive art painting",
    "New_Realism": "new realist painting",
    "Pointillism": "pointillist painting",
    "Post_Impressionism": "post-impressionist painting",
    "Realism": "realist painting",
    "Romanticism": "romantic era painting",
    "Symbolism": "symbolist painting",
    "Synthetic_Cubism": "synthetic cubist painting",
    "Ukiyo_e": "ukiyo-e print",
}
_PARTICLES = frozenset("da de del della der di du la le of the van von y".split())
_UNTITLED = re.compile(r"(untitled|not detected|not identified|unknown|no title)\b.*|study|sketch|composition")


def art_examples(path: Path, report: Report, options: SourceOptions) -> Iterator[Example]:
    """The painting is the target; the instruction says what it shows and names the style.

    Raises:
        DataError: there are no folders with pictures.
    """
    builder = Builder("art", report, options)
    captions = read_captions(path, builder.listing.report, builder.task) if path.is_dir() else {}
    styles = [(folder, picture_files(folder)) for folder in (folders_in(path) if path.is_dir() else [])]
    if not any(names for _, names in styles):
        raise DataError(f"{path} holds no folders of paintings, one for each style, such as Baroque/.")
    for folder, name in builder.mine((folder, name) for folder, names in styles for name in names):
        place = f"{folder.name}/{name}"
        target = builder.picture(folder, name)
        if target is None:
            continue
        for key, rng in builder.turns(place):
            caption = as_phrase(captions[place]) if place in captions else title_caption(Path(name).stem, rng)
            slots = {"caption": caption, "style": style_words(folder.name)}
            yield from builder.finish(key, rng, target, slots)


def style_words(folder: str) -> str:
    """The style as a noun without article: "Northern_Renaissance" is a "northern renaissance painting"."""
    if folder in _STYLES:
        return _STYLES[folder]
    words = " ".join(re.split(r"[\s_]+", folder.strip("_ "))).lower()
    return words if re.search(r"(painting|print|drawing|art)s?$", words) else f"{words} painting"


def title_caption(stem: str, rng: np.random.Generator) -> str:
    """A caption out of a file name such as `vincent-van-gogh_wheat-field-with-crows-1890`."""
    artist, _, slug = stem.partition("_") if "_" in stem else ("", "", stem)
    title = re.sub(r"\(\d+\)$", "", " ".join(slug.replace("_", "-").split("-"))).strip()
    title = re.sub(r"( \d{1,4})+$", "", title)  # the year, and a number where a title comes twice
    by = f" by {_name(artist)}" if _says_something(artist.replace("-", " ")) else ""
    if not _says_something(title):
        return f"a work{by}" if by else "a work of art"
    if rng.random() < TITLE_SHARE:
        return title
    return pick(rng, (f'"{title}"{by}', f'a work{by} called "{title}"', f'a picture titled "{title}"'))


def _says_something(words: str) -> bool:
    return bool(re.search(r"[^\W\d_]{2}", words)) and not _UNTITLED.fullmatch(words)


def _name(slug: str) -> str:
    words = [word if word in _PARTICLES else word.capitalize() for word in slug.split("-") if word]
    return " ".join(words)
