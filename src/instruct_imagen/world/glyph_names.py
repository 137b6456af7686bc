"""Which code points the font pack takes, and what their pictures are called.

The groups below alone decide which glyphs there are. Names and synonyms come from Unicode's CLDR annotations where
they are installed, otherwise from Python's own character names.
"""

from __future__ import annotations

import unicodedata
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

CLDR_ANNOTATIONS = Path("/usr/share/unicode/cldr/common/annotations/en.xml")
MAX_SYNONYMS = 4
_MAX_KEYWORD_SHARE = 3

# Code points of each group, hexadecimal, ranges inclusive. Left out on purpose: skin tones, flags, signs, all clock
# faces but one, moon phases and mailboxes that differ in a detail, and pictures that fill a square with a scene.
GROUP_CODE_POINTS: Mapping[str, str] = {
    "animals": (
        "2618 1F331-1F335 1F337-1F33C 1F33E-1F344 1F383 1F400-1F43C 1F43F 1F479 1F47A 1F47B 1F47D 1F47E 1F480 1F490 "
        "1F54A 1F577 1F578 1F63A 1F648-1F64A 1F916 1F940 1F980-1F9AE 1FAB0-1FAB4 1FAB6-1FABD 1FABF 1FACE 1FACF"
    ),
    "food": (
        "2615 1F32D-1F330 1F336 1F33D 1F345-1F37F 1F382 1F942-1F944 1F950-1F96F 1F9C0-1F9CB 1FAD0-1FAD6 1FAD8-1FADB"
    ),
    "travel": (
        "2600 2601 2602 2604 2614 2693 26C4 26C5 26C8 26E9 26EA 26F0 26F2 26F4 26F5 26FA 26FD 2708 2744 2B50 1F302 "
        "1F308 1F30B 1F30D 1F315 1F319 1F31D-1F31F 1F321 1F327-1F329 1F32A 1F3A0-1F3A2 1F3AA 1F3D4 1F3D7 1F3D8 1F3DA "
        "1F3DB 1F3DF-1F3E6 1F3E8-1F3ED 1F3EF 1F3F0 1F4A7 1F525 1F54B-1F54D 1F5FA-1F5FD 1F5FF 1F680-1F688 1F68A-1F69F "
        "1F6A0-1F6A2 1F6A4-1F6A8 1F6B2 1F6D1 1F6D5 1F6D6 1F6DD-1F6DF 1F6E2 1F6E5 1F6E9 1F6EB 1F6F0 1F6F3-1F6FC 1F9BC "
        "1F9BD 1F9ED 1FA82 1FA90"
    ),
    "activities": (
        "265F 26BD 26BE 26F3 26F8 1F004 1F0CF 1F380 1F381 1F384 1F388-1F38B 1F38D-1F390 1F396 1F397 1F39F 1F3A3 1F3A8 "
        "1F3AB 1F3AD-1F3B4 1F3BD-1F3BF 1F3C0 1F3C1 1F3C5 1F3C6 1F3C8 1F3C9 1F3CF-1F3D3 1F3F8 1F52B 1F52E 1F579 1F5BC "
        "1F6A9 1F93F 1F941 1F945 1F947 1F94A-1F94F 1F9E7-1F9E9 1F9F5 1F9F6 1F9F8 1FA80 1FA81 1FA83-1FA86 1FAA1 "
        "1FAA2 1FAA9"
    ),
    "objects": (
        "231A 231B 2328 23F0-23F2 2603 260E 2692 2694 2696 2697 2699 26B0 26B1 26CF 26D1 26D3 2702 2709 270F 2712 "
        "1F392 1F393 1F399 1F39B 1F39E 1F3A4 1F3A5 1F3A7 1F3A9 1F3AC 1F3B7-1F3BC 1F3EE 1F3F7 1F3F9 1F3FA 1F441 1F444 "
        "1F451-1F462 1F484 1F488-1F48A 1F48C-1F48E 1F4A1 1F4A3 1F4B0 1F4B3 1F4B5 1F4B8 1F4BA-1F4C1 1F4C5 1F4C7 1F4C8 "
        "1F4CA-1F4D1 1F4D3-1F4DA 1F4DC-1F4E3 1F4E6 1F4EB 1F4EE-1F4F1 1F4F7 1F4F9-1F4FD 1F4FF 1F50A-1F50D 1F511 1F512 "
        "1F514 1F516 1F517 1F526-1F52A 1F52C 1F52D 1F550 1F56F 1F570 1F576 1F587 1F58A-1F58D 1F5A5 1F5A8 1F5B1 1F5B2 "
        "1F5C3 1F5C4 1F5D1-1F5D3 1F5DC-1F5DE 1F5E1 1F5F3 1F6AA 1F6AC 1F6BD 1F6BF 1F6C1 1F6CB 1F6CD-1F6CF 1F6D2 1F6D7 "
        "1F6E0 1F6E1 1F97B-1F97F 1F9AF 1F9B4 1F9B7 1F9BA 1F9BE 1F9BF 1F9E0 1F9E2-1F9E6 1F9EA-1F9EC 1F9EE-1F9F4 1F9F7 "
        "1F9F9-1F9FF 1FA70-1FA74 1FA78-1FA7C 1FA87 1FA88 1FA91-1FA9F 1FAA0 1FAA3-1FAA8 1FAAA 1FAAD 1FAAE 1FAB5 1FAC0 "
        "1FAC1 1FAE7"
    ),
    "smileys": (
        "2639 263A 1F4A9 1F600-1F639 1F63B-1F644 1F910-1F915 1F917 1F920-1F925 1F927-1F92F 1F970-1F976 1F978-1F97A "
        "1F9D0 1FAE0-1FAE6 1FAE8"
    ),
    "people": (
        "1F385 1F3C2-1F3C4 1F3C7 1F3CA-1F3CC 1F466-1F478 1F47C 1F481-1F483 1F486 1F487 1F574 1F575 1F57A 1F645-1F647 "
        "1F64B 1F64D 1F64E 1F6A3 1F6B4-1F6B6 1F926 1F930 1F931 1F934-1F93E 1F977 1F9B8 1F9B9 1F9CC-1F9CF 1F9D1-1F9DF "
        "1FAC3-1FAC5"
    ),
    "symbols": (
        "2660 2663 2665 2666 267B 2728 2764 27A1 2B05-2B07 1F493-1F49D 1F4A4-1F4A6 1F4AB-1F4AD 1F534-1F537 1F53A 1F53B "
        "1F5A4 1F7E0-1F7EB 1F90D 1F90E 1F9E1 1FA75-1FA77"
    ),
}

# Names newer than the Unicode tables of the Pythons and CLDRs in use, and names that read badly in a sentence.
_NAMES: Mapping[str, str] = {
    "1F9F8": "teddy bear", "1FA75": "light blue heart", "1FA76": "grey heart", "1FA77": "pink heart",
    "1FA87": "maracas", "1FA88": "flute", "1FAAD": "folding fan", "1FAAE": "hair pick", "1FABB": "hyacinth",
    "1FABC": "jellyfish", "1FABD": "wing", "1FABF": "goose", "1FACE": "moose", "1FACF": "donkey",
    "1FADA": "ginger root", "1FADB": "pea pod", "1FAE8": "shaking face", "1F550": "clock", "1F411": "sheep",
    "1F4C5": "calendar page", "1F47E": "alien monster", "1F9AE": "guide dog", "1F30D": "globe",
    "1F50D": "magnifying glass", "1F4C8": "line chart", "1F50A": "loudspeaker cone", "1F512": "padlock",
    "2614": "umbrella in the rain",
    "1F4EB": "mailbox", "1F947": "gold medal", "1F6EB": "departing airplane", "1F425": "yellow chick",
    "1F004": "mahjong tile", "1F0CF": "joker card", "1F941": "drum", "1F3B1": "billiard ball", "1F48E": "gem",
    "1F379": "tropical drink", "2615": "cup of coffee", "1F37E": "champagne bottle", "1F9C3": "juice box",
    "1F3AF": "dartboard", "1F697": "car", "1F698": "oncoming car", "1F699": "jeep", "1F3E2": "office building",
    "1F32D": "hot dog", "1F63A": "smiling cat", "1F995": "long-necked dinosaur", "1F996": "tyrannosaurus",
    "2744": "snowflake", "1F3BE": "tennis ball", "1F3BD": "running shirt", "1F9C9": "mate drink",
    "1F376": "sake bottle",
}  # fmt: skip

# Keywords that name the thing in a picture. CLDR's others describe it, or only go with it ("chess": "expendable").
_SYNONYMS = frozenset(
    " ".join(word.split())
    for word in """
    phone; coffee; football; soccer; cog; cogwheel; urn; yacht; fuelpump; aeroplane; mahjong; joker; moon;
    whirlwind; frankfurter; hotdog; wrap; palm; toadstool; grape; maize; aubergine; apple; burger; drumstick;
    cracker; ramen; loaf; fries; kebab; prawn; icecream; donut; pudding; honeypot; bento; stew; teacup;
    sake; wine; cocktail; beer; clover; present; cap; medal; mic; earbud; tophat; dart; bullseye; piano;
    pool 8 ball; die; sax; shirt; ski; hockey; puck; table tennis; birdie; shuttlecock; lantern; jug; bull; buffalo;
    bunny; serpent; racehorse; sow; ewe; shell; bee; ladybug; ladybird; terrapin; tortoise; chick; dromedary;
    bactrian; squirrel; lips; eyeglasses; tie; tshirt; trousers; pants; pouch; sneaker; sandal;
    extraterrestrial; needle; love  jewel; gem stone; bulb; moneybag; banknote; minidisk; floppy;
    folder; calendar; rolodex; graph; pin; ruler; receiver; antenna; dish; parcel; horn; papers; cell; vhs; projector;
    necklace; magnifier; torch; spanner; bolt; pistol; crystal; ballpoint; dice; desktop; cabinet;
  vice; ballot; map; fuji; moyai; steam engine; engine; shinkansen; subway; trolley; automobile; lorry; semi;
    sport utility vehicle; gondola; tramway;  barrier; beacon; bike; bath; couch; tire; yurt; roundhouse; lift;
    hoist; life preserver; life saver; motorboat; tuk tuk; pickup; sledge; sleigh; ufo; snorkel; scuba; drumsticks;
    whisky; tumbler; net; 1st place medal; baguette;  pickle; salad; casserole; paella; gyro; peanut;
    kiwi; hotcake; pancake; empanada; pierogi; cereal; can; steak; porkchop; lettuce; cabbage; kale;
    bok choy; ballet flat; slipper; slip-on; shellfish; brachiosaurus; diplodocus; sauropod; t-rex;
    tyrannosaurus rex; grasshopper; alpaca; guanaco; peahen; hippo; amoeba; ape; wisent;
    sea lion; shaker; juice; ice cube; iceberg; baseball cap; jacket; stocking; dynamite; jigsaw;
    spool; crochet; plush; paper towels; toilet paper; lotion; shampoo; sunscreen; moisturizer; bathing suit;
    swimsuit; underwear; beach sandals; sandals; thongs; bandage; hatchet; lamp; conga; saw; saturn; disco;
    boulder; stone; pail; mousetrap; grave; tombstone; sign; rope; roach; log; timber; plumage; earthworm;
    capsicum; naan; pita; arepa; lavash; blueberry; bilberry; concertina; squeeze box; loupe; chariot; satchel;
    rucksack; wardrobe; home; lock; loudspeaker; gun; revolver; viper; toy; plaything; hang-glide; coil; horseshoe
    """.split(";")
)


def group_code_points(group: str) -> tuple[int, ...]:
    """Code points of a group of the table, ascending."""
    points: list[int] = []
    for item in GROUP_CODE_POINTS[group].split():
        first, _, last = item.partition("-")
        points.extend(range(int(first, 16), int(last or first, 16) + 1))
    return tuple(sorted(points))


PERSON_VARIANTS = "person variants"
SKIN_TONES: Mapping[int, str] = {
    0x1F3FB: "light",
    0x1F3FC: "medium light",
    0x1F3FD: "medium",
    0x1F3FE: "medium dark",
    0x1F3FF: "dark",
}


def prune_synonyms(candidates: Sequence[tuple[str, Sequence[str]]]) -> list[tuple[str, ...]]:
    """Keeps the words that identify their glyph.

    Args:
        candidates: For each glyph its name and the keywords that may stand for it.

    Returns:
        For each glyph at most four keywords that name the thing, none of them a glyph's name or a word that more
        than three glyphs share.
    """
    share = Counter(word for _, words in candidates for word in set(words))
    names = {name for name, _ in candidates}
    return [
        tuple(
            word
            for word in dict.fromkeys(words)
            if share[word] <= _MAX_KEYWORD_SHARE and word not in names and word in _SYNONYMS
        )[:MAX_SYNONYMS]
        for _, words in candidates
    ]


def name_code_points(points: Sequence[int], annotations: Path = CLDR_ANNOTATIONS) -> list[tuple[str, tuple[str, ...]]]:
    """Name and synonyms of each code point; distinct names.

    Args:
        points: Code points of the pack.
        annotations: CLDR's English annotations; Python's character names are used if the file is not there.
    """
    cldr = _read_cldr(annotations) if annotations.is_file() else {}
    candidates: list[tuple[str, Sequence[str]]] = []
    for point in points:
        name, keywords = cldr.get(point, ("", ()))
        name = _NAMES.get(f"{point:X}") or name or clean_word(unicodedata.name(chr(point), f"picture {point:x}"))
        candidates.append((name, keywords))
    return list(zip((name for name, _ in candidates), prune_synonyms(candidates), strict=True))


def clean_word(text: str) -> str:
    """Lower case, straight apostrophes, single blanks."""
    return " ".join(text.replace("\u2019", "'").replace("\u201c", "").replace("\u201d", "").lower().split())


def _read_cldr(path: Path) -> dict[int, tuple[str, tuple[str, ...]]]:
    names: dict[int, str] = {}
    keywords: dict[int, tuple[str, ...]] = {}
    for node in ElementTree.parse(path).getroot().iter("annotation"):
        characters = (node.get("cp") or "").replace("\ufe0f", "")
        if len(characters) != 1 or not node.text:
            continue
        if node.get("type") == "tts":
            names[ord(characters)] = clean_word(node.text)
        else:
            keywords[ord(characters)] = tuple(clean_word(word) for word in node.text.split("|"))
    return {point: (name, keywords.get(point, ())) for point, name in names.items()}
