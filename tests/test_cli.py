"""The command line: what it writes, its options, and that bad input ends with 2 and one sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instruct_imagen.cli import _parser, main, parse_reference

OPTIONS = {
    "generate": "--device --dtype --enlarge --guidance --help --image-guidance --json --lora --model --noise-level "
    "--num-images --offload --out --quiet --ref --sampler --seed --size --sr-steps --stages --steps",
    "demo": "--device --dtype --help --lora --model --offload --out --pack --quiet --stages --steps",
    "train": "--data --help --init --minutes --out --preset --quiet --resume --seed --set --steps --tracker",
    "finetune": "--batch-size --full --help --learning-rate --lora --minutes --model --out --quiet --rank --resume "
    "--seed --set --steps --tracker",
    "import": "--download --dtype --estimate --help --out --quiet --super-resolution --variant",
    "serve": "--alias --allow-anonymous --allow-url-references --batch --engine --exact --grace --help --host "
    "--keys --log-instructions --lora --max-body --max-images --max-megapixels --max-replicas --max-size "
    "--max-steps --min-replicas --model --model-name --picture-dir --port --public-url --queue --quiet "
    "--rate --ray-address --replica-cpus --replica-gpus --size --steps --watermark",
    "studio": "--depth-model --device --dtype --edge-model --help --host --keep --lora --mask-model --model --offload "
    "--pack --port --quiet --stages --steps",
    "evaluate": "--anchors --clip --count --data --depth-model --device --dino --download --dtype --export --guidance "
    "--help --image-guidance --images --judge-model --lora --model --name --offload --out --quiet --stages --steps "
    "--suite",
    "data templates": "--help --quiet --split",
    "data build": "--count --depth-model --download --edge-model --embedder --engine --examples-per-picture --help "
    "--mask-model --out --pack --quiet --ray-address --seed --size --source --strict --workers",
    "data clusters": "--domains --download --duplicate-similarity --embedder --engine --help --min-caption-similarity "
    "--min-score --min-side --min-similarity --neighbours --out --quality --quiet --ray-address --rounds "
    "--seed --size --stored --strict --workers",
    "rate create": "--allow-missing --guidelines --help --imagenhub --inputs --lease-days --method --quiet "
    "--raters-per-image --seed --title --truth",
    "rate add": "--allow-missing --help --method --quiet",
    "rate serve": "--help --host --port --quiet --trusted-proxy",
    "rate import": "--help --quiet --rater --task",
    "rate export": "--help --names --out --pictures --quiet --slots",
    "rate stats": "--baseline --help --out --quiet",
    "rate raters add": "--days --help --max-instructions --quiet --uploader --url",
    "rate raters list": "--help --quiet",
    "rate raters renew": "--days --help --quiet --url",
    "rate raters revoke": "--discard --help --quiet",
}


@pytest.fixture
def fox(tmp_path: Path) -> Path:
    path = tmp_path / "fox.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)).save(path)
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("command", OPTIONS)
def test_options_are_the_pinned_ones(command: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args([*command.split(), "--help"])
    assert ended.value.code == 0
    assert " ".join(sorted(set(re.findall(r"--[a-z-]+", capsys.readouterr().out)))) == OPTIONS[command]


def test_generate_writes_pictures_that_depend_on_the_seed_alone(fox: Path, model_folder: Path, tmp_path: Path):
    text = "Draw the [ref#1] fox in the style of [ref#2]"
    common = ("generate", text, "--ref", f"{fox}=fox", "--ref", f"{fox}=style", "--model", model_folder, "--quiet")
    several, single = tmp_path / "several.png", tmp_path / "single.png"
    assert run(*common, "--steps", 3, "--num-images", 3, "--seed", 7, "--size", 64, "--out", several) == 0
    assert run(*common, "--steps", 3, "--seed", 8, "--size", 64, "--out", single) == 0
    assert Image.open(several).size == (64 * 2 + 4, 64 * 2 + 4)
    second = np.asarray(Image.open(tmp_path / "several-1.png"), dtype=int)
    assert np.abs(second - np.asarray(Image.open(single), dtype=int)).max() <= 2
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["fox.png", "several.png", "several-0.png", "several-1.png", "several-2.png", "single.png"]
    )


def test_generate_reads_json_and_more_pictures_of_one_marker(fox: Path, model_folder: Path, tmp_path: Path):
    instruction = {"instruction": "draw [ref#1]", "references": [{"marker": 1, "text": "fox", "image": "fox.png"}]}
    file = tmp_path / "instruction.json"
    file.write_text(json.dumps(instruction))
    common = ("--model", model_folder, "--steps", 2, "--size", 32, "--quiet")
    assert run("generate", "--json", file, "--out", tmp_path / "a.png", *common) == 0
    arguments = ("--ref", f"{fox}=fox", "--ref", f"1:{fox}=fox", "--out", tmp_path / "b.png")
    assert run("generate", "draw [ref#1]", *arguments, *common) == 0
    first, second = (np.asarray(Image.open(tmp_path / name), dtype=int) for name in ("a.png", "b.png"))
    assert np.abs(first - second).max() <= 2  # the same picture twice says nothing new
    assert (
        run(
            "generate",
            "draw [ref#1]",
            "--ref",
            f"{fox}=fox",
            "--sampler",
            "paper",
            "--out",
            tmp_path / "c.png",
            *common,
        )
        == 0
    )


def test_generate_draws_with_one_network_or_both_and_enlarges_a_picture(
    fox: Path, cascade_folder: Path, tmp_path: Path
):
    common = ("generate", "draw [ref#1]", "--ref", f"{fox}=fox", "--model", cascade_folder, "--quiet", "--steps", 2)
    names = ("whole", "base", "cascade", "enlarged", "other")
    whole, base, cascade, enlarged, other = (tmp_path / f"{name}.png" for name in names)
    assert run(*common, "--sr-steps", 2, "--out", whole) == 0
    assert run(*common, "--sr-steps", 2, "--stages", "cascade", "--out", cascade) == 0
    assert run(*common, "--stages", "base", "--size", 32, "--out", base) == 0
    assert run(*common, "--sr-steps", 2, "--enlarge", base, "--num-images", 2, "--size", 64, "--out", enlarged) == 0
    level = ("--noise-level", 0.7)
    assert run(*common, "--sr-steps", 2, "--enlarge", base, *level, "--size", 64, "--out", other) == 0
    assert Image.open(whole).size == (256, 256)
    assert Image.open(base).size == (32, 32)
    pictures = {path: np.asarray(Image.open(path), dtype=int) for path in (whole, cascade, other)}
    assert np.array_equal(pictures[whole], pictures[cascade])
    assert Image.open(enlarged).size == (64 * 2 + 4, 64)
    first = np.asarray(Image.open(tmp_path / "enlarged-0.png"), dtype=int)
    assert np.abs(first - pictures[other]).max() > 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--stages", "cascade"), "no super-resolution"),
        (("--enlarge", "{tmp}/fox.png"), "no super-resolution"),
        (("--enlarge", "{tmp}/none.png"), "does not exist"),
        (("--enlarge", "{tmp}/fox.png", "--stages", "base"), "leave out --stages"),
    ],
)
def test_stages_that_a_model_lacks_end_with_2_and_one_sentence(
    options: tuple[str, ...], words: str, fox: Path, model_folder: Path, tmp_path: Path, capsys
):
    filled = [option.replace("{tmp}", str(tmp_path)) for option in options]
    assert run("generate", "a fox", "--model", model_folder, "--quiet", "--out", tmp_path / "o.png", *filled) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("instruct-imagen: ")
    assert words in message
    assert "\n" not in message
    assert not (tmp_path / "o.png").exists()


def bad_calls() -> dict[str, tuple[str, ...]]:
    return {
        "missing picture": ("draw [ref#1]", "--ref", "{tmp}/none.png=fox"),
        "unreadable picture": ("draw [ref#1]", "--ref", "{tmp}/text.png=fox"),
        "truncated picture": ("draw [ref#1]", "--ref", "{tmp}/half.png=fox"),
        "100 megapixels": ("draw [ref#1]", "--ref", "{tmp}/huge.png=fox"),
        "marker without reference": ("draw [ref#1] and [ref#2]", "--ref", "{tmp}/fox.png=fox"),
        "reference without marker": ("draw a fox", "--ref", "{tmp}/fox.png=fox"),
        "hole in markers": ("draw [ref#2]", "--ref", "2:{tmp}/fox.png=fox"),
        "empty text": ("",),
        "blank text": ("   ",),
        "no text": (),
        "100 kB of text": ("fox " * 25_000,),
        "text and json": ("a fox", "--json", "{tmp}/bad.json"),
        "broken json": ("--json", "{tmp}/bad.json"),
        "missing json": ("--json", "{tmp}/none.json"),
        "unknown model": ("a fox", "--model", "none"),
        "damaged model": ("a fox", "--model", "{tmp}/damaged"),
        "output folder missing": ("a fox", "--out", "{tmp}/none/out.png"),
        "output is a folder": ("a fox", "--out", "{tmp}"),
        "output of no known kind": ("a fox", "--out", "{tmp}/out.xyz"),
    }


@pytest.fixture
def bad_files(fox: Path, model_folder: Path, tmp_path: Path) -> Path:
    import shutil

    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "half.png").write_bytes(fox.read_bytes()[:2000])
    Image.new("L", (10_000, 10_000)).save(tmp_path / "huge.png")
    (tmp_path / "bad.json").write_text('{"instruction": ')
    shutil.copytree(model_folder, tmp_path / "damaged")
    weights = next((tmp_path / "damaged" / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:5000])
    return tmp_path


@pytest.mark.parametrize("case", bad_calls())
def test_bad_input_ends_with_2_and_one_sentence(
    case: str, bad_files: Path, model_folder: Path, capsys: pytest.CaptureFixture
):
    before = sorted(bad_files.iterdir())
    arguments = [argument.replace("{tmp}", str(bad_files)) for argument in bad_calls()[case]]
    for option, value in (("--model", model_folder), ("--out", bad_files / "out.png")):
        arguments += [] if option in arguments else [option, str(value)]
    assert run("generate", *arguments, "--steps", "2", "--quiet") == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("instruct-imagen: ")
    assert "\n" not in message
    assert len(message) < 500
    assert "Traceback" not in message
    assert sorted(bad_files.iterdir()) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "fox", "--out", "x.png", "--steps", "0"),
        ("generate", "fox", "--out", "x.png", "--num-images", "many"),
        ("generate", "fox", "--out", "x.png", "--seed", "-1"),
        ("generate", "fox", "--out", "x.png", "--noise-level", "1.5"),
        ("generate", "fox", "--out", "x.png", "--stages", "both"),
        ("train", "--preset", "debug", "--out", "x", "--minutes", "0"),
        ("nothing",),
    ],
)
def test_bad_options_end_with_2(arguments: tuple[str, ...]):
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--preset", "none", "--out", "{tmp}/run"),
        ("train", "--preset", "debug", "--out", "{tmp}/run", "--set", "model.size=3"),
        ("train", "--preset", "debug", "--out", "{tmp}/file"),
        ("train", "--preset", "debug-sr", "--out", "{tmp}/run"),
        ("train", "--preset", "debug-sr", "--out", "{tmp}/run", "--set", "base={tmp}/nowhere"),
        ("train", "--preset", "debug", "--out", "{tmp}/run", "--set", "pack={tmp}/nowhere"),
        ("evaluate", "--suite", "none", "--out", "{tmp}/scores", "--model", "{model}"),
        ("evaluate", "--suite", "mask"),
        ("evaluate", "--suite", "mask", "--out", "{tmp}/scores", "--images", "{tmp}/nowhere"),
        ("evaluate", "--suite", "mask", "--export", "{tmp}/file"),
        ("evaluate", "--suite", "paper/subject", "--out", "{tmp}/scores", "--model", "{model}"),
        ("evaluate", "--suite", "paper/subject", "--suite", "quick", "--out", "{tmp}/scores", "--model", "{model}"),
        ("evaluate", "--suite", "paper/none", "--out", "{tmp}/scores", "--model", "{model}"),
        ("evaluate", "--suite", "paper/subject", "--out", "{tmp}/scores", "--data", "unknown={tmp}"),
        ("evaluate", "--suite", "paper/subject", "--export", "{tmp}/export"),
        ("evaluate", "--out", "{tmp}/scores", "--model", "none"),
        ("demo", "--out", "{tmp}/file", "--model", "{model}"),
        ("demo", "--out", "{tmp}/demo", "--model", "{model}", "--pack", "{tmp}/nowhere"),
    ],
)
def test_other_commands_fail_in_one_sentence(arguments, tmp_path: Path, model_folder: Path, capsys):
    (tmp_path / "file").write_text("")
    filled = [a.replace("{tmp}", str(tmp_path)).replace("{model}", str(model_folder)) for a in arguments]
    assert run(*filled, "--quiet") == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("instruct-imagen: ")
    assert "\n" not in message
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_parse_reference(fox: Path):
    odd = fox.with_name("a=b.png")
    odd.write_bytes(fox.read_bytes())
    assert parse_reference(f"{fox}=red fox") == (None, str(fox), "red fox")
    assert parse_reference(f"2:{fox}=fox") == (2, str(fox), "fox")
    assert parse_reference(str(fox)) == (None, str(fox), "")
    assert parse_reference(f"{odd}=a=b") == (None, str(odd), "a=b")
    assert parse_reference("missing.png=x=y") == (None, "missing.png", "x=y")


def test_demo_writes_a_contact_sheet(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "demo"
    assert run("demo", "--out", out, "--model", model_folder, "--steps", 1, "--pack", "builtin", "--quiet") == 0
    assert "contact_sheet.png" in capsys.readouterr().out
    sheet = Image.open(out / "contact_sheet.png")
    assert sheet.width > 500
    folders = [p for p in out.iterdir() if p.is_dir()]
    assert len(folders) >= 10
    assert {"style_subject", "control_subject"} <= {p.name for p in folders}
    for folder in folders:
        assert json.loads((folder / "instruction.json").read_text())["instruction"]
        assert Image.open(folder / "image-0.png").size == (256, 256)
