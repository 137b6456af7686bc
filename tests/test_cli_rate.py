"""The rating commands end to end, and the one sentence that bad input ends with."""

from __future__ import annotations

import json
import re
import sqlite3
import zipfile
from pathlib import Path

import pytest
from rating_study import METHODS, write_method, write_world_suite
from sqlalchemy.exc import OperationalError

from instruct_imagen import cli_rate
from instruct_imagen.cli import _parser, main
from instruct_imagen.rating.database import open_database
from instruct_imagen.rating.desk import Answer, RatingDesk
from instruct_imagen.rating.raters import sign_in

OPTIONS = {
    "create": "--allow-missing --guidelines --help --imagenhub --inputs --lease-days --method --quiet "
    "--raters-per-image --seed --title --truth",
    "add": "--allow-missing --help --method --quiet",
    "serve": "--help --host --port --quiet --trusted-proxy",
    "import": "--help --quiet --rater --task",
    "export": "--help --names --out --pictures --quiet --slots",
    "stats": "--baseline --help --out --quiet",
    "raters add": "--days --help --max-instructions --quiet --uploader --url",
    "raters list": "--help --quiet",
    "raters renew": "--days --help --quiet --url",
    "raters revoke": "--discard --help --quiet",
}


def run(*arguments: object) -> int:
    return main(["rate", *(str(argument) for argument in arguments), "--quiet"])


def fails_with(sentence: str, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
    capsys.readouterr()
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1, error


@pytest.mark.parametrize("command", OPTIONS)
def test_options_are_the_pinned_ones(command, capsys):
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args(["rate", *command.split(), "--help"])
    assert ended.value.code == 0
    assert " ".join(sorted(set(re.findall(r"--[a-z-]+", capsys.readouterr().out)))) == OPTIONS[command]


@pytest.fixture(scope="module")
def world(builtin_pack, tmp_path_factory) -> Path:
    """Two tasks of the glyph world, two instructions each, three methods."""
    folder = tmp_path_factory.mktemp("world")
    write_world_suite(folder, builtin_pack, ("text", "style_subject"), 2, size_px=64)
    return folder


@pytest.fixture
def study(world, tmp_path, capsys) -> Path:
    path = tmp_path / "study.sqlite3"
    methods = [f"--method={name}={world / name}" for name in METHODS]
    assert run("create", path, "--inputs", world / "suite" / "suite.jsonl", *methods, "--title", "Test") == 0
    assert capsys.readouterr().out == "12 pictures of 3 methods for 4 instructions\n"
    return path


def rate_everything(study: Path, link: str) -> None:
    database = open_database(str(study))
    person, desk = sign_in(database, link.partition("#")[2]).visitor.id, RatingDesk(database)
    state = desk.state(person)
    while state.item:
        state = desk.submit(person, state.item.picture, Answer(1, len(state.item.picture) % 2), 4)


def links(output: str) -> dict[str, str]:
    return dict(line.split("\t") for line in output.splitlines() if "\t" in line)


def test_a_study_from_its_making_to_its_figures(study, tmp_path, capsys):
    assert run("raters", "add", study, "Ada", "Grace", "Edsger", "--url", "https://rate.example/", "--days", 30) == 0
    invited = links(capsys.readouterr().out)
    assert set(invited) == {"Ada", "Grace", "Edsger"}
    assert all(re.fullmatch(r"https://rate\.example/#[\w-]+\.[\w-]{43}", link) for link in invited.values())
    for link in invited.values():
        rate_everything(study, link)
    assert run("raters", "list", study) == 0
    listed = capsys.readouterr().out
    assert re.search(r"Ada +active +12 +4 +4\.0 +20", listed) and "12 of 12 pictures have 3 ratings or more" in listed
    assert run("stats", study, "--baseline", METHODS[0], "--out", tmp_path / "scores.json") == 0
    printed = capsys.readouterr().out
    assert "style_subject" in printed and METHODS[2] in printed and "fewer than" not in printed
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert len(scores) == 8 and scores[0]["num_ratings"] == 6
    assert "12 of 12 pictures have 3 ratings or more" in printed
    assert run("export", study, "--out", tmp_path / "out", "--pictures") == 0
    assert run("stats", tmp_path / "out" / "ratings") == 0
    assert capsys.readouterr().out.splitlines()[1:] and (tmp_path / "out" / "results" / "text" / METHODS[0]).is_dir()


def test_what_was_exported_is_imported_into_the_same_study_elsewhere(study, world, tmp_path, capsys):
    run("raters", "add", study, "Ada")
    rate_everything(study, links(capsys.readouterr().out)["Ada"])
    run("export", study, "--out", tmp_path / "out", "--pictures")
    other = tmp_path / "other.sqlite3"
    assert run("create", other, "--imagenhub", tmp_path / "out" / "results") == 0
    tables = sorted((tmp_path / "out" / "ratings").glob("*/*.tsv"))
    capsys.readouterr()
    assert run("import", other, *tables) == 0
    assert capsys.readouterr().out == "12 new ratings of 12\n"
    assert run("import", other, *tables) == 0
    assert capsys.readouterr().out == "0 new ratings of 12\n"
    figures = []
    for source in (study, other):
        assert run("stats", source) == 0
        figures.append(capsys.readouterr().out)
    assert figures[0] == figures[1]
    fails_with("no picture", capsys, "import", other, tables[0], "--task", "unknown")


def test_methods_come_from_archives_and_later(study, world, tmp_path, capsys):
    packed = tmp_path / "late.zip"
    with zipfile.ZipFile(packed, "w") as file:
        for path in sorted((world / METHODS[0]).rglob("*.png")):
            file.write(path, path.relative_to(world).as_posix())
    assert run("add", study, "--method", f"Late={packed}") == 0
    assert "16 pictures of 4 methods" in capsys.readouterr().out
    fails_with("holds the method 'Late' already", capsys, "add", study, "--method", f"Late={packed}")


def test_true_pictures_can_be_rated_too(world, tmp_path, capsys):
    assert run("create", tmp_path / "a", "--inputs", world / "suite" / "suite.jsonl", "--truth") == 0
    assert "4 pictures of 1 methods" in capsys.readouterr().out


def test_links_are_renewed_and_revoked(study, capsys):
    run("raters", "add", study, "Ada")
    old = links(capsys.readouterr().out)["Ada"]
    assert run("raters", "renew", study, "Ada") == 0
    new = links(capsys.readouterr().out)["Ada"]
    database = open_database(str(study))
    assert sign_in(database, old.partition("#")[2]) is None and sign_in(database, new.partition("#")[2]) is not None
    assert run("raters", "revoke", study, "Ada", "--discard") == 0
    assert sign_in(database, new.partition("#")[2]) is None
    run("raters", "list", study)
    assert "discarded" in capsys.readouterr().out
    assert run("raters", "add", study, "Sender", "--uploader") == 0
    assert "#" not in capsys.readouterr().out.splitlines()[-1]


def test_bad_input_ends_with_two_and_a_sentence(study, world, tmp_path, capsys):
    suite = world / "suite" / "suite.jsonl"
    new = tmp_path / "new.sqlite3"
    short = write_method(tmp_path / "short", ["text/0.png"], 1)
    fails_with("nothing to rate", capsys, "create", new, "--inputs", suite)
    fails_with("must be NAME=PATH", capsys, "create", new, "--inputs", suite, "--method", "A")
    fails_with("does not exist", capsys, "create", new, "--inputs", suite, "--method", f"A={tmp_path / 'gone'}")
    fails_with("lacks 1 pictures (text/1)", capsys, "create", new, "--inputs", suite, "--method", f"A={short}")
    fails_with("cannot be read", capsys, "create", new, "--inputs", tmp_path / "gone", "--method", f"A={short}")
    fails_with("cannot be read", capsys, "create", new, "--inputs", suite, "--truth", "--guidelines", tmp_path / "no")
    fails_with("holds a study already", capsys, "create", study, "--inputs", suite, "--truth")
    fails_with("does not exist", capsys, "create", tmp_path / "gone" / "a", "--inputs", suite, "--truth")
    fails_with("There is no study", capsys, "serve", new)
    fails_with("There is no study", capsys, "stats", new)
    fails_with("no ratings yet", capsys, "stats", study)
    fails_with("at least one --method", capsys, "add", study)
    fails_with("given twice", capsys, "raters", "add", study, "Ada", "Ada")
    fails_with("no rater 'Ada'", capsys, "raters", "revoke", study, "Ada")
    fails_with("no table", capsys, "import", study, suite)
    assert not new.exists()
    assert run("create", new, "--inputs", suite, "--method", f"A={short}", "--allow-missing") == 0


def test_what_a_database_cannot_do_is_said_with_its_name(study, capsys, monkeypatch):
    def locked(options):
        raise OperationalError("select", {}, sqlite3.OperationalError("database is locked"))

    monkeypatch.setattr(cli_rate, "_open", locked)
    fails_with(f"{study} cannot be used: database is locked", capsys, "raters", "list", study)


def test_a_missing_library_is_named_with_its_extra(study, capsys, monkeypatch):
    def missing(options):
        raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")

    monkeypatch.setattr(cli_rate, "_open", missing)
    fails_with("install instruct-imagen[postgres]", capsys, "raters", "list", study)
