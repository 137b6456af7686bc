"""The command line's rating part: instruct-imagen rate create | add | raters | serve | import | export | stats."""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import natural, positive, positive_number
from .errors import UserError

if TYPE_CHECKING:
    from .rating.database import Database
    from .rating.raters import Invitation, Role
    from .rating.results import MethodResults
    from .rating.study import Coverage

_EXTRAS = {
    "sqlalchemy": "rate",
    "fastapi": "rate",
    "uvicorn": "rate",
    "krippendorff": "rate",
    "psycopg": "postgres",
}
_LOCAL = "http://127.0.0.1:8765"
Command = Callable[[argparse.Namespace], None]


def add_rate(commands: argparse._SubParsersAction) -> Iterator[argparse.ArgumentParser]:
    """Adds `rate` and its commands; yields those that run."""
    group = commands.add_parser("rate", help="have people rate pictures on a web page, and count what they say")
    parts = group.add_subparsers(dest="rate_command", required=True, metavar="COMMAND")
    yield from (add(parts) for add in (_add_create, _add_add, _add_serve, _add_import, _add_export, _add_stats))
    raters = parts.add_parser("raters", help="invite raters, look at them, end their links")
    verbs = raters.add_subparsers(dest="raters_command", required=True, metavar="COMMAND")
    yield from (add(verbs) for add in (_add_invite, _add_list, _add_renew, _add_revoke))


def _command(
    parts: argparse._SubParsersAction, name: str, what: str, run: Command, study: str = "its file, or postgresql://..."
) -> argparse.ArgumentParser:
    command = parts.add_parser(name, help=what)
    command.add_argument("study", metavar="STUDY", help=study)
    command.set_defaults(run=functools.partial(_run, run))
    return command


def _run(run: Command, options: argparse.Namespace) -> None:
    """Runs a command; what is not installed is said with its extra, what a database cannot do with its name."""
    try:
        from .rating.database import said_plainly, shown, study_url

        with said_plainly(shown(study_url(options.study))):
            run(options)
    except ImportError as error:
        name = (error.name or "").split(".")[0]
        if name not in _EXTRAS:
            raise
        raise UserError(f"Rating needs {name}; install instruct-imagen[{_EXTRAS[name]}].") from error


def _add_create(parts: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = _command(parts, "create", "make a study of instructions and the pictures of methods", _create)
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--inputs", type=Path, metavar="PATH", help="instructions: JSONL, a folder of it, or shards")
    source.add_argument("--imagenhub", type=Path, metavar="DIR", help="a folder of results as ImagenHub writes it")
    _add_methods_options(command)
    command.add_argument("--truth", action="store_true", help="the true pictures are rated too, as GroundTruth")
    command.add_argument("--title", default="Picture rating", help="what raters see (%(default)s)")
    command.add_argument("--guidelines", type=Path, metavar="FILE", help="your own words to raters, plain text")
    command.add_argument(
        "--raters-per-image", type=positive, default=3, metavar="N", help="people a picture (%(default)s)"
    )
    command.add_argument("--lease-days", type=positive_number, default=3.0, metavar="D", help="a left one waits (3)")
    command.add_argument("--seed", type=natural, help="of the orders (random, and best kept to yourself)")
    return command


def _add_add(parts: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = _command(parts, "add", "add the pictures of further methods", _add)
    _add_methods_options(command)
    return command


def _add_methods_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--method",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a folder or zip archive with TASK/UID.png for each instruction; raters never see the name",
    )
    command.add_argument("--allow-missing", action="store_true", help="a method may lack pictures")


def _add_serve(parts: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = _command(parts, "serve", "serve the page on which raters rate", _serve)
    command.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    command.add_argument("--port", type=natural, default=8765, help="(%(default)s; 0: a free one)")
    command.add_argument(
        "--trusted-proxy", default="127.0.0.1", metavar="IPS", help="whose X-Forwarded headers count (%(default)s)"
    )
    return command


def _add_import(parts: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = _command(parts, "import", "add ratings from ImagenHub's tables", _import)
    command.add_argument("tables", nargs="+", type=Path, metavar="TSV", help="TASK/TASK_RATER.tsv")
    command.add_argument("--task", metavar="NAME", help="the task (the file's folder)")
    command.add_argument("--rater", metavar="NAME", help="who rated (from the file's name)")
    return command


def _add_export(parts: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = _command(parts, "export", "write the ratings as JSONL and as ImagenHub's tables", _export)
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    command.add_argument("--pictures", action="store_true", help="also ImagenHub's folder of results")
    command.add_argument("--names", action="store_true", help="raters by name, not as rater1, rater2, ...")
    command.add_argument("--slots", action="store_true", help="table k: the k-th rating of each picture")
    return command


def _add_stats(parts: argparse._SubParsersAction) -> argparse.ArgumentParser:
    what = "O with intervals, and how far raters agree, for each task and method"
    source = "a study, or a folder of tables, TASK/TASK_rater1.tsv"
    command = _command(parts, "stats", what, _stats, source)
    command.add_argument("--baseline", metavar="METHOD", help="compare the other methods with this one, in pairs")
    command.add_argument("--out", type=Path, metavar="FILE", help="also write the figures as JSON")
    return command


def _add_invite(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = _command(verbs, "add", "add raters and print their links, once", _invite)
    command.add_argument("names", nargs="+", metavar="NAME")
    command.add_argument("--max-instructions", type=positive, metavar="N", help="each rates at most so many")
    command.add_argument("--uploader", action="store_true", help="a token to send results with, not to rate")
    _add_link_options(command)
    return command


def _add_list(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    return _command(verbs, "list", "who rated how much, and what is left", _list)


def _add_renew(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = _command(verbs, "renew", "print a new link; the old one ends", _renew)
    command.add_argument("name", metavar="NAME")
    _add_link_options(command)
    return command


def _add_revoke(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = _command(verbs, "revoke", "end a rater's link", _revoke)
    command.add_argument("name", metavar="NAME")
    command.add_argument("--discard", action="store_true", help="and count the ratings no more")
    return command


def _add_link_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--days", type=positive_number, metavar="D", help="the link ends after so many")
    command.add_argument("--url", default=_LOCAL, help="where raters reach the page (%(default)s)")


def _methods(options: argparse.Namespace) -> list[MethodResults]:
    from .rating.results import MethodResults, open_results

    found = []
    for argument in options.method:
        name, separator, path = argument.partition("=")
        if not separator or not path:
            raise UserError(f"--method {argument!r} must be NAME=PATH.")
        found.append(MethodResults(name, open_results(Path(path))))
    return found


def _create(options: argparse.Namespace) -> None:
    from .rating.imagenhub import read_experiments, read_methods
    from .rating.inputs import read_inputs
    from .rating.study import StudyConfig, create_study

    guidelines = ""
    if options.guidelines is not None:
        try:
            guidelines = options.guidelines.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{options.guidelines} cannot be read ({error}).") from error
    config = StudyConfig(
        options.title, guidelines, options.raters_per_image, options.seed, lease_days=options.lease_days
    )
    methods = _methods(options)
    if options.imagenhub is not None:
        inputs = read_experiments(options.imagenhub)
        methods = read_methods(options.imagenhub, options.truth) + methods
    else:
        inputs = read_inputs(options.inputs)
    truth = options.truth and options.imagenhub is None
    if not methods and not truth:
        raise UserError("There is nothing to rate; name at least one --method NAME=PATH.")
    size = create_study(options.study, config, inputs, methods, truth=truth, partial=options.allow_missing)
    print(f"{size.num_outputs} pictures of {size.num_methods} methods for {size.num_inputs} instructions")


def _add(options: argparse.Namespace) -> None:
    from .rating.study import add_methods

    if not options.method:
        raise UserError("Name at least one --method NAME=PATH.")
    size = add_methods(_open(options), _methods(options), options.allow_missing)
    print(f"{size.num_outputs} pictures of {size.num_methods} methods for {size.num_inputs} instructions")


def _open(options: argparse.Namespace) -> Database:
    from .rating.database import open_database

    return open_database(options.study)


def _serve(options: argparse.Namespace) -> None:
    from .rating.app import create_app
    from .rating.server import serve

    serve(create_app(options.study), options.host, options.port, options.trusted_proxy, options.quiet)


def _invite(options: argparse.Namespace) -> None:
    from .rating.raters import add_raters

    role: Role = "uploader" if options.uploader else "rater"
    invited = add_raters(
        _open(options), options.names, days=options.days, max_instructions=options.max_instructions, role=role
    )
    for invitation in invited:
        _print_invitation(invitation, options)


def _print_invitation(invitation: Invitation, options: argparse.Namespace) -> None:
    print(f"{invitation.name}\t{invitation.link(options.url) if invitation.role == 'rater' else invitation.token}")


def _list(options: argparse.Namespace) -> None:
    from .rating.raters import list_raters
    from .rating.study import coverage

    database = _open(options)
    raters = list_raters(database)
    wide = max([5, *(len(rater.name) for rater in raters)])
    print(f"{'rater':<{wide}}  state      ratings  instructions  s/picture  last")
    for rater in raters:
        seconds = "-" if rater.mean_seconds is None else f"{rater.mean_seconds:.1f}"
        last = "-" if rater.last_at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(rater.last_at))
        state = rater.state if rater.role == "rater" else rater.role
        print(
            f"{rater.name:<{wide}}  {state:<9}  {rater.num_ratings:7d}  {rater.num_complete:12d}  {seconds:>9}  {last}"
        )
    print(_progress(coverage(database)))


def _progress(done: Coverage) -> str:
    return f"{done.num_covered} of {done.num_pictures} pictures have {done.raters_per_image} ratings or more"


def _renew(options: argparse.Namespace) -> None:
    from .rating.raters import renew_rater

    _print_invitation(renew_rater(_open(options), options.name, options.days), options)


def _revoke(options: argparse.Namespace) -> None:
    from .rating.raters import revoke_rater

    revoke_rater(_open(options), options.name, options.discard)
    print(f"{options.name}: the link has ended" + (", and the ratings count no more" if options.discard else ""))


def _import(options: argparse.Namespace) -> None:
    from .rating.export import import_ratings
    from .rating.tables import read_table

    ratings = [rating for path in options.tables for rating in read_table(path, options.task, options.rater)]
    print(f"{import_ratings(_open(options), ratings)} new ratings of {len(ratings)}")


def _export(options: argparse.Namespace) -> None:
    from .rating.export import export_study

    count = export_study(
        _open(options), options.out, names=options.names, slots=options.slots, pictures=options.pictures
    )
    print(f"{options.out}: {count} ratings")


def _stats(options: argparse.Namespace) -> None:
    from .files import check_writable
    from .rating.export import stored_ratings
    from .rating.scores import score_ratings, scores_text, short_of, write_scores
    from .rating.study import coverage
    from .rating.tables import read_tables

    if options.out is not None:
        check_writable(options.out)
    done = None
    if "://" not in options.study and Path(options.study).is_dir():
        ratings = read_tables(Path(options.study))
    else:
        database = _open(options)
        ratings = [stored.rating for stored in stored_ratings(database)]
        done = coverage(database)
    scores = score_ratings(ratings, options.baseline)
    if options.out is not None:
        write_scores(scores, options.out)
    if done is None:
        print(scores_text(scores, short_of(scores)))
    else:
        print(scores_text(scores, done.short_tasks, done.raters_per_image))
        print(_progress(done))
