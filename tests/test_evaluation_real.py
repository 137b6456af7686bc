"""The paper's own sets: readers of small copies of the public layouts, metrics of tiny models, and damaged releases."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_data_sources_faces import celeba
from tiny_models import save_clip, save_dino, save_llava

from instruct_imagen.data.report import DataError
from instruct_imagen.errors import UserError
from instruct_imagen.evaluation.real.cases import REAL_SUITES, real_cases
from instruct_imagen.evaluation.real.metrics import DinoEmbedder, RealMetrics, frechet_and_kernel_distance
from instruct_imagen.evaluation.real.releases import (
    read_controls,
    read_custom_concepts,
    read_dreambench,
    read_prompts,
    read_style_pictures,
)
from instruct_imagen.evaluation.real.runner import print_real_scores, run_real, suite_names
from instruct_imagen.evaluation.real.vision_language import ChatJudge, parse_ratings, question
from instruct_imagen.evaluation.suites import EvaluationError
from instruct_imagen.retrieval.embedders import ClipEmbedder, EmbedderError

PROMPTS = """Classes

subject_name,class
backpack,backpack
bear_plushie,stuffed animal
cat2,cat
dog,dog
dog2,dog

Prompts

Object Prompts

prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
'a red {0} {1}'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {0} {1} wearing a red hat'.format(unique_token, class_token),
'a {0} {1} in a chef outfit'.format(unique_token, class_token)
]
"""


def picture(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_parquet(path: Path, **columns: list) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.fixture(scope="module")
def releases(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("releases")
    for k, name in enumerate(("backpack", "bear_plushie", "cat2", "dog", "dog2")):
        for number in range(3):
            save(picture(10 * k + number), root / "dreambooth" / "dataset" / name / f"{number:02d}.jpg")
    (root / "dreambooth" / "dataset" / "prompts_and_classes.txt").write_text(PROMPTS)
    concepts = root / "cc101"
    pair = [
        {"instance_data_dir": "./benchmark_dataset/pet_dog1", "class_prompt": "dog"},
        {"instance_data_dir": "./benchmark_dataset/toy_bear1", "class_prompt": "bear"},
        {"prompt_filename_compose": "prompts/pet_toy.txt"},
    ]
    missing = [pair[0], {"instance_data_dir": "./benchmark_dataset/none", "class_prompt": "none"}, pair[2]]
    for k, part in enumerate(pair[:2]):
        save(picture(200 + k), concepts / part["instance_data_dir"] / "1.png")
    (concepts / "prompts").mkdir()
    (concepts / "prompts" / "pet_toy.txt").write_text(
        "photo of the {0} and {1}. \nA {0} batting a {1} on a beach.\nno slot\n"
    )
    (concepts / "dataset_multiconcept.json").write_text(json.dumps([pair, missing, "damaged"]))
    for k in range(3):
        save(picture(300 + k), root / "styledrop" / f"style_{k}.png")
    prompts = [f"A {animal} in the rain." for animal in ("fox", "cat", "owl", "dog")]
    write_parquet(root / "text" / "data" / "eval-00000.parquet", uid=[1, 2, 3, 4], prompt=prompts)
    write_parquet(root / "text" / "data" / "extra-00000.parquet", uid=[9], prompt=["not in the evaluation"])
    write_parquet(
        root / "control" / "eval-00000.parquet",
        control_type=["control_depth", "control_canny", "control_openpose", "control_hed", "mask"],
        text=["a fox", "a cat", "a man", "an owl", "a bear"],
        guide=[{"bytes": png(picture(400 + k)), "path": None} for k in range(5)],
        source=[{"bytes": png(picture(500 + k)), "path": None} for k in range(5)],
    )
    faces = celeba(root / "celeba")
    return {
        "dreambench": root / "dreambooth",
        "customconcept101": concepts,
        "styledrop": root / "styledrop",
        "imagenhub_text": root / "text",
        "imagenhub_control": root / "control",
        "celeba": faces,
    }


@pytest.fixture(scope="module")
def metrics(tmp_path_factory) -> RealMetrics:
    clip = ClipEmbedder(str(save_clip(tmp_path_factory.mktemp("clip"))), device="cpu")
    dino = DinoEmbedder(str(save_dino(tmp_path_factory.mktemp("dino"))), device="cpu")
    return RealMetrics(clip, dino)


def copied_first(task, cases):
    """A system that gives back the first reference, or grey."""
    images = [
        case.instruction.references[0].image if case.instruction.references else Image.new("RGB", (32, 32))
        for case in cases
    ]
    return [np.asarray(image.resize((32, 32))) for image in images]


def test_the_papers_numbers_and_releases():
    numbers = {name: suite.count for name, suite in REAL_SUITES.items()}
    assert numbers == {
        "text": 197, "control": 300, "style": 120, "subject": 220, "face": 100, "style_transfer": 455,
        "style_subject": 132, "multi_subject": 120, "control_subject": 99, "control_style": 100,
    }  # fmt: skip


def test_releases_are_read_as_they_lie(releases):
    subjects = read_dreambench(releases["dreambench"])
    assert [(s.name, s.word, len(s.pictures)) for s in subjects][:3] == [
        ("backpack", "backpack", 3), ("bear_plushie", "stuffed animal", 3), ("cat2", "cat", 3),
    ]  # fmt: skip
    assert subjects[1].prompts == ("a stuffed animal in the jungle", "a red stuffed animal")
    assert subjects[2].prompts == ("a cat wearing a red hat", "a cat in a chef outfit")
    (pair,) = read_custom_concepts(releases["customconcept101"])
    assert (pair.first.word, pair.second.word) == ("dog", "bear")
    assert pair.prompts == ("photo of the dog and bear.", "A dog batting a bear on a beach.")
    assert len(read_style_pictures(releases["styledrop"])) == 3
    assert read_prompts(releases["imagenhub_text"]) == [f"A {a} in the rain." for a in ("fox", "cat", "owl", "dog")]
    assert [(c.kind, c.caption) for c in read_controls(releases["imagenhub_control"])] == [
        ("depth", "a fox"), ("edge", "a cat"), ("edge", "an owl"), ("mask", "a bear"),
    ]  # fmt: skip


def test_prompts_of_other_files(tmp_path):
    (tmp_path / "dataset_lookup.json").write_text(json.dumps({"sample_1.jpg": {"prompt": "a fox"}, "x": {}}))
    assert read_prompts(tmp_path / "dataset_lookup.json") == ["a fox"]
    (tmp_path / "prompts.txt").write_text("a fox\n\nan owl\n")
    assert read_prompts(tmp_path / "prompts.txt") == ["a fox", "an owl"]


@pytest.mark.parametrize("name", [name for name in REAL_SUITES if name != "face"])
def test_every_suite_can_be_built(name, releases):
    cases = real_cases(name, releases, 6)
    assert 1 <= len(cases) <= 6
    again = real_cases(name, releases, 6)
    assert [c.instruction.text for c in cases] == [c.instruction.text for c in again]
    assert [c.seed for c in cases] == [c.seed for c in again]
    assert [c.index for c in cases] == list(range(len(cases)))
    for case in cases:
        assert bool(case.caption) == (name != "style_transfer")
        assert bool(case.style) == (name in ("style", "style_transfer", "style_subject", "control_style"))
        assert bool(case.control) == name.startswith("control")
        assert len(case.subjects) == {"multi_subject": 2, "subject": 1, "style_subject": 1, "control_subject": 1}.get(
            name, 1 if name == "style_transfer" else 0
        )


def test_faces_are_those_of_the_test_part(releases, tmp_path):
    root = celeba(tmp_path / "celeba")
    (root / "list_eval_partition.txt").unlink(missing_ok=True)
    cases = real_cases("face", {"celeba": root}, 3)
    assert cases and all(case.truth is not None and case.subjects for case in cases)
    names = [line.split()[0] for line in (root / "identity_CelebA.txt").read_text().splitlines() if line]
    (root / "list_eval_partition.txt").write_text("".join(f"{name} 0\n" for name in names))
    with pytest.raises(DataError, match="test part"):
        real_cases("face", {"celeba": root}, 3)


def test_a_run_writes_scores_with_their_anchors(releases, metrics, tmp_path, capsys):
    scores = run_real(["subject", "control", "style_transfer"], copied_first, releases, metrics, tmp_path, count=3)
    assert json.loads((tmp_path / "scores.json").read_text()) == scores
    subject = scores["paper"]["subject"]
    assert subject["paper_count"] == 220 and subject["count"] == 3
    assert set(subject["metrics"]) == {"clip_t", "clip_i_subject", "dino_subject"}
    likeness = subject["metrics"]["dino_subject"]
    assert likeness["copies"] >= likeness["mean"] - 0.02 and likeness["ceiling"] is None
    control = scores["paper"]["control"]
    assert control["metrics"]["control"]["ceiling"] is not None and "fid" in control
    assert set(scores["paper"]["style_transfer"]["metrics"]) >= {"clip_i_style", "dino_style", "clip_i_subject"}
    assert "clip_t" not in scores["paper"]["style_transfer"]["metrics"]
    assert (tmp_path / "images" / "subject" / "0.png").is_file() and (tmp_path / "contact_subject.png").is_file()
    print_real_scores(scores)
    assert "paper/subject: 3 of 220" in capsys.readouterr().out


def test_a_picture_is_most_like_itself(releases, metrics):
    cases = real_cases("subject", releases, 2)
    own = metrics.measure(cases, [case.subjects[0][0] for case in cases])
    swapped = metrics.measure(cases, [case.subjects[0][0] for case in cases[::-1]])
    assert own["dino_subject"].mean() > swapped["dino_subject"].mean()
    cases = real_cases("control_subject", releases, 2)
    drawn = metrics.measure(cases, [case.control[1] for case in cases])["control"]
    other = metrics.measure(cases, [Image.new("RGB", (48, 48))] * 2)["control"]
    assert drawn.mean() > other.mean()


def test_several_subjects_count_as_the_least_alike(releases, metrics):
    (case, *_) = real_cases("multi_subject", releases, 1)
    first, second = (pictures[0] for pictures in case.subjects)
    embed = metrics.dino.images
    expected = min(float(embed([first])[0] @ embed([p])[0]) for p in (first, second))
    assert metrics.measure([case], [first])["dino_subject"][0] == pytest.approx(expected, abs=1e-5)


def test_distances_of_distributions_equal_their_definitions():
    rng = np.random.default_rng(0)
    one, two = (rng.normal(m, 1, (40, 5)).astype(np.float32) for m in (0, 0.7))
    fid, kid = frechet_and_kernel_distance(one, two)
    from scipy.linalg import sqrtm

    covs = [np.cov(values, rowvar=False) for values in (one, two)]
    expected = np.square(one.mean(0) - two.mean(0)).sum() + np.trace(sum(covs) - 2 * sqrtm(covs[0] @ covs[1]).real)
    assert fid == pytest.approx(expected, rel=1e-3) and kid > 0.05
    same, _ = frechet_and_kernel_distance(one, one)
    assert same == pytest.approx(0, abs=1e-2)
    with pytest.raises(EvaluationError, match="at least two"):
        frechet_and_kernel_distance(one[:1], two)


@pytest.mark.parametrize(
    ("answer", "ratings"),
    [
        ("SC=0.5 PQ=1", (0.5, 1.0)),
        ("sc: 1, pq: 0", (1.0, 0.0)),
        ("SC = 1.0\nPQ = .5", (1.0, 0.5)),
        ("SC=0.8 PQ=0.1", (1.0, 0.0)),
        ("I cannot rate this.", None),
        ("", None),
    ],
)
def test_ratings_are_read_from_answers(answer, ratings):
    assert parse_ratings(answer) == ratings


def test_a_vision_language_model_is_asked(releases, tmp_path):
    judge = ChatJudge(str(save_llava(tmp_path / "llava")), device="cpu", max_new_tokens=4)
    (case,) = real_cases("style", releases, 1)
    text = question(case)
    assert case.instruction.text in text and "[ref#1]" in text
    assert isinstance(judge.ask([case.instruction.references[0].image, picture(1)], text), str)
    assert judge.rate(case, picture(1)) is None, "random weights rate nothing"

    class Strict:
        def rate(self, case, picture):
            return (0.5, 1.0) if case.index else None

    found = RealMetrics(judge=Strict()).measure(real_cases("style", releases, 2), [picture(1), picture(2)])
    assert np.isnan(found["judge_o"][0]) and found["judge_o"][1] == pytest.approx(np.sqrt(0.5))


def test_missing_and_damaged_things_are_named(releases, tmp_path):
    (tmp_path / "empty").mkdir()
    for read in (read_dreambench, read_custom_concepts, read_style_pictures, read_prompts, read_controls):
        with pytest.raises(UserError, match="empty"):
            read(tmp_path / "empty")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="damaged"):
        read_prompts(tmp_path)
    with pytest.raises(EvaluationError, match="--data styledrop=DIR"):
        real_cases("style", {"imagenhub_text": releases["imagenhub_text"]})
    with pytest.raises(EvaluationError, match="no suite"):
        real_cases("none", releases)
    with pytest.raises(EvaluationError, match="--data"):
        suite_names("paper", {})
    assert suite_names("paper/face", {}) == ["face"]
    assert set(suite_names("paper", {"styledrop": tmp_path, "dreambench": tmp_path})) == {
        "subject", "style_transfer", "style_subject", "control_subject",
    }  # fmt: skip
    for model in (DinoEmbedder(str(tmp_path / "none")), ChatJudge(str(tmp_path / "none"))):
        with pytest.raises((EmbedderError, EvaluationError), match="cannot be loaded"):
            model.images([picture(0)]) if isinstance(model, DinoEmbedder) else model.ask([picture(0)], "?")
