"""Sources of imports: what is refused and in which words, what is left out, markers, and the command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tiny_backbones import TEXTS, save_if
from transformers import CLIPTokenizer, T5Tokenizer

from instruct_imagen.backbones.importer import import_pipeline, left_out
from instruct_imagen.backbones.source import BackboneError, check_source, find_source, stored_dtype
from instruct_imagen.cli import main
from instruct_imagen.tokenizer import MARKER_TOKENS


def edit_json(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def weights(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


def drop_tensor(folder: Path, name: str) -> None:
    tensors = load_file(weights(folder))
    del tensors[name]
    save_file(tensors, weights(folder), {"format": "pt"})


def other_shape(folder: Path, name: str) -> None:
    tensors = load_file(weights(folder))
    tensors[name] = torch.zeros(3)
    save_file(tensors, weights(folder), {"format": "pt"})


def only_pickles(folder: Path) -> None:
    file = weights(folder)
    file.rename(file.with_suffix(".bin"))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda f: (f / "model_index.json").unlink(), "no diffusers pipeline"),
    "broken index": (lambda f: (f / "model_index.json").write_text("{"), "model_index.json is damaged"),
    "index of another kind": (lambda f: (f / "model_index.json").write_text("[]"), "holds no JSON object"),
    "unknown class": (
        lambda f: edit_json(f / "model_index.json", _class_name="KandinskyPipeline"),
        "KandinskyPipeline, which is not supported; supported are IFPipeline, StableDiffusionPipeline",
    ),
    "another family": (
        lambda f: edit_json(f / "model_index.json", _class_name="StableDiffusionXLPipeline"),
        "StableDiffusionXLPipeline, which is not supported",
    ),
    "already imported": (
        lambda f: edit_json(f / "model_index.json", _class_name="InstructImagenPipeline"),
        "is an Instruct-Imagen model already",
    ),
    "a super-resolution": (
        lambda f: edit_json(f / "model_index.json", _class_name="IFSuperResolutionPipeline"),
        "with --super-resolution",
    ),
    "saved without text encoder": (
        lambda f: edit_json(f / "model_index.json", text_encoder=[None, None]),
        "saved without its text_encoder",
    ),
    "another text encoder": (
        lambda f: edit_json(f / "model_index.json", text_encoder=["transformers", "BertModel"]),
        "text_encoder of .* is a BertModel; only T5EncoderModel",
    ),
    "missing folder": (lambda f: shutil.rmtree(f / "tokenizer"), "folder tokenizer is missing"),
    "missing weights": (lambda f: weights(f / "unet").unlink(), "unet holds no weights"),
    "truncated weights": (lambda f: truncate(weights(f / "unet")), "damaged"),
    "pickled weights": (lambda f: only_pickles(f / "text_encoder"), "only model.bin; full weights in safetensors"),
    "no weights of the variant": (
        lambda f: weights(f / "unet").rename(f / "unet" / "diffusion_pytorch_model.fp16.safetensors"),
        "only diffusion_pytorch_model.fp16.safetensors; full weights",
    ),
    "broken configuration": (lambda f: (f / "unet" / "config.json").write_text("{"), "config.json is damaged"),
    "missing configuration": (lambda f: (f / "unet" / "config.json").unlink(), "config.json cannot be read"),
    "broken tokenizer": (lambda f: (f / "tokenizer" / "tokenizer.json").write_text("{"), "damaged or incomplete"),
    "broken scheduler": (
        lambda f: (f / "scheduler" / "scheduler_config.json").write_text("{"),
        "damaged or incomplete",
    ),
    "missing tensor": (lambda f: drop_tensor(f / "unet", "conv_out.weight"), "damaged or incomplete|lacks weights"),
    "tensor of another shape": (lambda f: other_shape(f / "unet", "conv_out.bias"), "damaged or incomplete"),
    "further inputs": (
        lambda f: edit_json(f / "unet" / "config.json", addition_embed_type="text_time"),
        "addition_embed_type='text_time', which is not supported",
    ),
    "classes": (
        lambda f: edit_json(f / "unet" / "config.json", class_embed_type="timestep"),
        "class_embed_type='timestep'",
    ),
    "oblong pictures": (lambda f: edit_json(f / "unet" / "config.json", sample_size=[16, 32]), "square sample_size"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_cannot_be_imported_is_refused_in_one_sentence(
    damage: str, if_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    folder = tmp_path / "copy"
    shutil.copytree(if_folder, folder)
    change, message = DAMAGES[damage]
    change(folder)
    with pytest.raises(BackboneError, match=message):
        import_pipeline(folder)
    assert main(["import", str(folder), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("instruct-imagen: ")
    assert "\n" not in said
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


def test_other_places_are_refused(if_folder: Path, sd_folder: Path, tmp_path: Path):
    with pytest.raises(BackboneError, match="there is no folder some/pipeline; a name on a model hub needs --download"):
        find_source("some/pipeline")
    (tmp_path / "file").write_text("")
    with pytest.raises(BackboneError, match="is a file"):
        find_source(str(tmp_path / "file"))
    with pytest.raises(BackboneError, match="single UNet2DConditionModel; name the folder of the whole pipeline"):
        check_source(if_folder / "unet")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(BackboneError, match="weights in one file"):
        check_source(tmp_path)
    with pytest.raises(BackboneError, match="is a base model; --super-resolution takes a IFSuperResolutionPipeline"):
        import_pipeline(if_folder, sd_folder)
    second = tmp_path / "second"
    shutil.copytree(if_folder.with_name("super-resolution"), second)
    edit_json(second / "unet" / "config.json", class_embed_type=None)
    with pytest.raises(BackboneError, match="class_embed_type=None"):
        import_pipeline(if_folder, second)


def test_a_stage_2_of_another_text_encoder_is_refused(if_folder: Path, tmp_path: Path):
    save_if(tmp_path / "base", encoder_hid_dim=24)
    second = tmp_path / "second"
    shutil.copytree(if_folder.with_name("super-resolution"), second)
    config = json.loads((second / "unet" / "config.json").read_text())
    config["encoder_hid_dim"] = 16
    (second / "unet").rename(tmp_path / "unet")
    UNet2DConditionModel.from_config(config).save_pretrained(second / "unet")
    with pytest.raises(BackboneError, match="reads another text encoder"):
        import_pipeline(tmp_path / "base", second)


def test_a_name_on_the_hub_is_asked_for_only_with_download():
    """Tests run offline, so the hub's library refuses; what it says becomes one sentence."""
    with pytest.raises(BackboneError, match="cannot be fetched|neither a folder nor a pipeline"):
        find_source("some/pipeline", download=True)
    with pytest.raises(BackboneError, match="neither a folder nor a pipeline"):
        find_source("no name at all", download=True)


def test_downloads_take_what_is_read_and_nothing_else(if_folder: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    asked = {}
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda name, file: str(if_folder / file))

    def snapshot(name, allow_patterns):
        asked[name] = allow_patterns
        return str(if_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert find_source("org/full", download=True) == if_folder
    assert find_source("org/half", download=True, variant="fp16") == if_folder
    from huggingface_hub.utils import filter_repo_objects

    files = [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "text_encoder/model.safetensors.index.json",
        "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model.fp16-00001-of-00002.safetensors",
        "text_encoder/pytorch_model.bin",
        "tokenizer/spiece.model",
        "scheduler/scheduler_config.json",
        "safety_checker/model.safetensors",
    ]
    full = set(filter_repo_objects(files, allow_patterns=asked["org/full"]))
    half = set(filter_repo_objects(files, allow_patterns=asked["org/half"]))
    both = {files[0], files[1], files[5], files[9], files[10]}
    assert full == both | {files[2], files[6]}
    assert half == both | {files[3], files[7]}


def test_weights_keep_their_precision_and_variants_are_found(if_folder: Path, tmp_path: Path):
    folder = tmp_path / "half"
    shutil.copytree(if_folder, folder)
    for part in ("unet", "text_encoder"):
        file = weights(folder / part)
        save_file({k: v.half() for k, v in load_file(file).items()}, file, {"format": "pt"})
        file.rename(file.with_suffix(".fp16.safetensors"))
    assert stored_dtype(folder / "unet", "fp16") == torch.float16
    assert import_pipeline(folder, variant="fp16").unet.dtype == torch.float16
    assert import_pipeline(folder, variant="fp16", dtype=torch.float32).unet.dtype == torch.float32
    with pytest.raises(BackboneError, match="safetensors of variant 'bf16' are needed"):
        import_pipeline(folder, variant="bf16")


def test_guards_are_left_out_unread_and_named(if_folder: Path, sd_folder: Path):
    assert set(left_out(if_folder)) == {"safety_checker", "feature_extractor", "watermarker"}
    assert set(left_out(sd_folder)) == {"safety_checker", "feature_extractor"}
    assert (if_folder / "safety_checker" / "model.safetensors").read_text() == "not to be read"


OTHER_TEXTS = (*TEXTS, "", "REF#1 ref #1 [ref#0] [ref# 1]", "naïve façade 東京 🦊", "  two  spaces ", "a" * 300)


@pytest.mark.parametrize("kind", ["if", "sd"])
def test_markers_are_tokens_and_other_texts_are_encoded_as_before(kind: str, request: pytest.FixtureRequest):
    folder = request.getfixturevalue(f"{kind}_folder")
    pipeline = import_pipeline(folder)
    tokenizer = pipeline.tokenizer
    before = (T5Tokenizer if kind == "if" else CLIPTokenizer).from_pretrained(folder / "tokenizer")
    for text in OTHER_TEXTS:
        assert tokenizer(text)["input_ids"] == before(text)["input_ids"]
    inner = slice(0, -1) if kind == "if" else slice(1, -1)
    for marker in MARKER_TOKENS:
        assert len(tokenizer(marker)["input_ids"][inner]) == 1
        assert tokenizer.convert_tokens_to_ids(marker) in tokenizer(f"draw the {marker} fox")["input_ids"]
        assert len(before(marker)["input_ids"][inner]) > 1
    ids = tokenizer.convert_tokens_to_ids(list(MARKER_TOKENS))
    embeddings = pipeline.text_encoder.get_input_embeddings().weight[ids]
    distances = torch.cdist(embeddings, embeddings) + torch.eye(len(MARKER_TOKENS))
    assert distances.min() > 1e-3
    assert embeddings.norm(dim=1).min() > 1e-3


def test_the_tokenizer_of_the_released_layout_is_read(if_folder: Path, tmp_path: Path):
    """Released pipelines hold a spiece.model and no tokenizer.json."""
    folder = tmp_path / "released"
    shutil.copytree(if_folder, folder)
    expected = import_pipeline(if_folder).tokenizer
    shutil.rmtree(folder / "tokenizer")
    (folder / "sentencepiece").rename(folder / "tokenizer")
    tokenizer = import_pipeline(folder).tokenizer
    for text in (*OTHER_TEXTS, "draw the [ref#1] fox next to [ref#2]"):
        assert tokenizer(text)["input_ids"] == expected(text)["input_ids"]


def test_the_command_imports_a_cascade_that_the_other_commands_take(
    if_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    out, second = tmp_path / "imported", if_folder.with_name("super-resolution")
    assert main(["import", str(if_folder), "--super-resolution", str(second), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    card = (out / "README.md").read_text()
    assert "Left out: feature_extractor, safety_checker, watermarker" in card
    assert "32 pixels; 100 steps and a guidance of 7.0" in card
    assert main(["import", str(if_folder), "--out", str(out), "--quiet"]) == 2
    assert "exists already" in capsys.readouterr().err
    steps = ["--steps", "2", "--sr-steps", "2", "--size", "32", "--quiet"]
    drawing = ["generate", "A red fox", "--model", str(out), *steps]
    fast, paper = ["--sampler", "fast", "--dtype", "bfloat16"], ["--sampler", "paper", "--stages", "base"]
    for options in ([], fast, paper, ["--offload", "--device", "cpu"]):
        assert main([*drawing, *options, "--out", str(tmp_path / "fox.png")]) == 0
    assert main([*drawing, "--device", "cuda:99", "--out", str(tmp_path / "no.png")]) == 2
    assert "cannot be put on 'cuda:99'" in capsys.readouterr().err
    assert not (tmp_path / "no.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name the folder of a pipeline, or add --estimate"),
        (("{if}",), "--out DIR is missing"),
        (("{if}", "--out", "{if}"), "exists already"),
        (("{if}", "--out", "{tmp}/new", "--super-resolution", "{sd}"), "--super-resolution takes a"),
        (("none/such", "--estimate"), "there is no folder"),
    ],
)
def test_bad_calls_end_with_2(arguments, message, if_folder, sd_folder, tmp_path, capsys):
    filled = [a.replace("{if}", str(if_folder)).replace("{sd}", str(sd_folder)) for a in arguments]
    assert main(["import", *(a.replace("{tmp}", str(tmp_path)) for a in filled), "--quiet"]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
