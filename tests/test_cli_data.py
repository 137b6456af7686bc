"""The data commands end to end: what they write, and the one sentence that bad input ends with."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instruct_imagen.cli import main
from instruct_imagen.data.shards import open_examples
from instruct_imagen.retrieval import glyph_embedder
from instruct_imagen.retrieval.glyph_embedder import GlyphNet, GlyphNetConfig, save_net
from instruct_imagen.retrieval.records import ClusterShards
from instruct_imagen.world import SceneSampler, caption, render


def fails_with(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1, error


@pytest.fixture(scope="module")
def captioned(builtin_pack, tmp_path_factory) -> Path:
    """Sixty captioned pictures of two subjects, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("captioned")
    rng, sampler = np.random.default_rng(3), SceneSampler(builtin_pack, "train")
    first = [sampler.sample(rng, num_subjects=1) for _ in range(2)]
    for number in range(60):
        like = first[number % 2]
        scene = sampler.sample(rng, glyphs=like.glyphs, ground=like.ground, style=like.style)
        Image.fromarray(render(scene, builtin_pack, 64).image).save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(caption(scene, builtin_pack, rng))
    (folder / "bad.png").write_bytes(b"no picture")
    (folder / "bad.txt").write_text("a caption of nothing")
    return folder


@pytest.fixture
def small_embedder(tmp_path, monkeypatch):
    """An untrained network in place of the shipped one."""
    weights = tmp_path / "glyph.safetensors"
    save_net(GlyphNet(GlyphNetConfig((8, 16), (1, 1), 256, 16)), weights)
    monkeypatch.setattr(glyph_embedder.GlyphEmbedder.__init__, "__defaults__", (weights, "auto", 256))


def test_a_world_data_set_is_built_and_read(tmp_path, capsys):
    out = tmp_path / "mask"
    command = ["data", "build", "mask", "--source", "world", "--pack", "builtin", "--count", "5", "--quiet"]
    assert main([*command, "--out", str(out)]) == 0
    assert "5 examples, 0 records dropped" in capsys.readouterr().out
    examples = open_examples(out)
    assert len(examples) == 5 and all(examples[i].task == "mask" for i in range(5))
    assert (out / "contact_sheet.png").is_file()
    assert json.loads((out / "report.json").read_text())["dataset"] == "mask"
    fails_with([*command[:-1], "--out", str(out)], "holds something already", capsys)


def test_a_corpus_becomes_a_data_set(captioned, tmp_path, capsys):
    arguments = ["data", "build", "edge", "--source", str(captioned), "--out", str(tmp_path / "edge")]
    assert main([*arguments, "--examples-per-picture", "2", "--quiet"]) == 0
    assert len(open_examples(tmp_path / "edge")) == 120
    report = json.loads((tmp_path / "edge" / "report.json").read_text())
    assert sum(sum(step["dropped"].values()) for step in report["steps"].values()) == 1
    strict = [*arguments[:-1], str(tmp_path / "strict"), "--strict"]
    fails_with(strict, "bad.png", capsys)
    assert not (tmp_path / "strict").exists() and not (tmp_path / ".strict.partial").exists()


def test_workers_share_a_data_set(captioned, tmp_path, capsys):
    counts, keys, sheets = [], [], []
    for workers in ("0", "2"):
        out = tmp_path / workers
        arguments = ["data", "build", "sketch", "--source", "world", "--pack", "builtin", "--count", "7"]
        assert main([*arguments, "--out", str(out), "--workers", workers, "--quiet"]) == 0
        counts.append(capsys.readouterr().out.split(": ")[1])
        source = open_examples(out)
        examples = {e.key: (e.instruction.text, e.target.tobytes()) for e in (source[i] for i in range(len(source)))}
        keys.append(examples)
        sheets.append(sorted(path.name for path in out.iterdir()))
    assert counts[0] == counts[1] == "7 examples, 0 records dropped\n" and keys[0] == keys[1] and len(keys[0]) == 7
    assert sheets[0][0] == "00000.tar" and sheets[1][:2] == ["0000-00000.tar", "0001-00000.tar"]
    strict = ["data", "build", "edge", "--source", str(captioned), "--out", str(tmp_path / "strict"), "--strict"]
    fails_with([*strict, "--workers", "2"], "bad.png", capsys)
    assert not (tmp_path / "strict").exists() and not (tmp_path / ".strict.partial").exists()


def test_build_refuses_what_it_cannot_do(captioned, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    fails_with(["data", "build", "masks", "--source", "world", *out], "choose one of", capsys)
    fails_with(["data", "build", "mask", "--source", "world", *out], "--count", capsys)
    fails_with(["data", "build", "mask", "--source", str(tmp_path / "none"), *out], "does not exist", capsys)
    depth = ["data", "build", "depth", "--source", str(captioned), *out]
    fails_with(depth, "--depth-model", capsys)
    fails_with([*depth, "--depth-model", str(tmp_path)], "cannot be loaded", capsys)
    fails_with(["data", "build", "style", "--source", str(captioned), *out], "no folders of pictures", capsys)
    assert not (tmp_path / "out").exists()


def test_clusters_of_a_corpus(captioned, small_embedder, tmp_path, capsys):
    out = tmp_path / "clusters"
    (tmp_path / "domains.json").write_text(json.dumps({"all": ["a picture"]}))
    command = ["data", "clusters", str(captioned), "--out", str(out), "--domains", str(tmp_path / "domains.json")]
    command += ["--duplicate-similarity", "1", "--min-side", "32", "--min-similarity", "0.1", "--quiet"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    clusters = ClusterShards(out)
    assert len(clusters) >= 5 and f"{len(clusters)} clusters" in printed
    assert all(len(set(clusters[i].keys)) == 5 for i in range(len(clusters)))
    shards = {path.name: path.read_bytes() for path in (out / "shards").iterdir()}
    assert main(command) == 0
    assert {path.name: path.read_bytes() for path in (out / "shards").iterdir()} == shards
    fails_with([*command[:-1], "--quality", "none"], "another quality", capsys)


def test_clusters_refuse_bad_options(captioned, small_embedder, tmp_path, capsys):
    start = ["data", "clusters", str(captioned), "--out", str(tmp_path / "out")]
    fails_with([*start, "--embedder", str(tmp_path / "clip")], "cannot be loaded", capsys)
    fails_with([*start, "--domains", str(tmp_path / "none.json")], "check the path", capsys)
    (tmp_path / "bad.json").write_text('["a"]')
    fails_with([*start, "--domains", str(tmp_path / "bad.json")], "object of lists", capsys)
    fails_with(["data", "clusters", str(tmp_path / "no"), "--out", str(tmp_path / "out")], "no", capsys)
    with pytest.raises(SystemExit) as caught:
        main([*start, "--min-similarity", "1.5"])
    assert caught.value.code == 2 and "from 0 to 1" in capsys.readouterr().err
