"""Who rates what, in which order, and that nothing is lost: on SQLite, and with `-m postgres` on PostgreSQL."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from rating_study import METHODS, make_study, plain_picture, write_method

from instruct_imagen.rating import assignment, raters, schema
from instruct_imagen.rating.database import Database, open_database, study_url
from instruct_imagen.rating.desk import Answer, NotAssignedError, RatingDesk
from instruct_imagen.rating.export import export_study, import_ratings, stored_ratings
from instruct_imagen.rating.raters import (
    add_raters,
    check_session,
    check_token,
    list_raters,
    renew_rater,
    revoke_rater,
    sign_in,
    sign_out,
)
from instruct_imagen.rating.records import Rating, RatingError
from instruct_imagen.rating.results import FolderResults, MethodResults
from instruct_imagen.rating.study import StudyConfig, add_methods, coverage

GOOD = Answer(1.0, 0.5)


@pytest.fixture
def database(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Database]:
    """Four instructions, three methods."""
    made = make_study(tmp_path, name=new_database())
    yield made
    made.close()


def rater(database: Database, name: str = "Ada", **options) -> int:
    [invitation] = add_raters(database, [name], **options)
    return sign_in(database, invitation.token).visitor.id


def method_of(database: Database, picture: str) -> tuple[str, str]:
    """Method and uid of a picture, which only the owner can tell."""
    query = (
        sa.select(schema.methods.c.name, schema.inputs.c.uid)
        .select_from(schema.outputs)
        .join(schema.methods)
        .join(schema.inputs)
        .where(schema.outputs.c.picture_id == picture)
    )
    with database.reading() as connection:
        return tuple(connection.execute(query).one())


def rate_all(database: Database, rater_id: int, most: int = 1000) -> list[tuple[str, str]]:
    """Rates whatever comes; returns (method, uid) in the order in which they came."""
    desk, seen = RatingDesk(database), []
    state = desk.state(rater_id)
    while state.item is not None and len(seen) < most:
        seen.append(method_of(database, state.item.picture))
        assert state.num_rated == len(seen) - 1
        state = desk.submit(rater_id, state.item.picture, Answer(0.5, len(seen) % 3 / 2), 2.5)
    return seen


def test_a_rater_gets_all_methods_of_an_instruction_one_after_the_other(database):
    seen = rate_all(database, rater(database))
    assert len(seen) == 12 and len(set(seen)) == 12
    for start in range(0, 12, 3):
        assert len({uid for _, uid in seen[start : start + 3]}) == 1
        assert {method for method, _ in seen[start : start + 3]} == set(METHODS)


def test_orders_are_each_raters_own_and_say_nothing_of_methods(new_database, tmp_path):
    database = make_study(tmp_path, num_inputs=10, name=new_database())
    orders = [rate_all(database, rater(database, name)) for name in ("Ada", "Grace")]
    assert orders[0] != orders[1] and set(orders[0]) == set(orders[1])
    firsts = Counter(method for order in orders for method, _ in order[::3])
    assert all(3 <= firsts[method] <= 12 for method in METHODS)  # of 20


def test_an_order_depends_on_the_seed_and_stays_when_more_is_added():
    ids = list(range(1, 30))
    first = assignment.in_order(5, 1, "output", ids)
    assert first == assignment.in_order(5, 1, "output", reversed(ids)) != assignment.in_order(6, 1, "output", ids)
    assert first != assignment.in_order(5, 1, "input", ids)
    assert [number for number in assignment.in_order(5, 1, "output", [*ids, 99]) if number != 99] == first


def test_every_picture_is_rated_by_as_many_as_wanted_and_not_by_more(database):
    people = [rater(database, name) for name in ("Ada", "Grace", "Edsger", "Barbara", "Donald")]
    desk = RatingDesk(database)
    assert coverage(database).short_tasks == ("subject",)
    states = {person: desk.state(person) for person in people}
    while any(state.item is not None for state in states.values()):
        for person, state in states.items():  # in turns, so that all are at work at once
            if state.item is not None:
                states[person] = desk.submit(person, state.item.picture, GOOD)
    assert all(desk.state(person).item is None for person in people)
    counts = Counter((r.rating.uid, r.rating.method) for r in stored_ratings(database))
    assert len(counts) == 12 and set(counts.values()) == {3}
    assert coverage(database).num_covered == 12 and not coverage(database).short_tasks
    by_rater = Counter((r.rating.uid, r.rating.rater) for r in stored_ratings(database))
    assert set(by_rater.values()) == {3}  # who rates an instruction rates all its methods


def test_raters_at_once_never_exceed_what_is_wanted(new_database, tmp_path):
    database = make_study(tmp_path, num_inputs=6, name=new_database())
    people = [rater(database, f"rater {k}") for k in range(5)]
    failures: list[BaseException] = []

    def work(person: int) -> None:
        try:
            desk = RatingDesk(database)
            state = desk.state(person)
            while state.item is not None:
                state = desk.submit(person, state.item.picture, GOOD)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    counts = Counter((r.rating.uid, r.rating.method) for r in stored_ratings(database))
    assert len(counts) == 18 and set(counts.values()) == {3}


def test_progress_counts_to_the_end_and_quota_ends_earlier(database):
    person, desk = rater(database), RatingDesk(database)
    state = desk.state(person)
    assert (state.num_rated, state.num_total) == (0, 12)
    assert desk.submit(person, state.item.picture, GOOD).num_rated == 1
    hurried = rater(database, "Grace", max_instructions=1)
    assert desk.state(hurried).num_total == 3
    assert len(rate_all(database, hurried)) == 3
    assert desk.state(hurried).item is None


def test_undo_takes_back_one_rating_after_the_other(database):
    person, desk = rater(database), RatingDesk(database)
    shown = []
    for k in range(4):  # into the second instruction
        shown.append(desk.state(person).item.picture)
        desk.submit(person, shown[-1], Answer(0.5, k % 2))
    assert desk.state(person).latest == shown[3]
    for k in (3, 2, 1, 0):
        state = desk.undo(person, shown[k])
        assert state.item.picture == shown[k] and state.num_rated == k
        assert state.item.previous == Answer(0.5, k % 2)
        assert desk.state(person).item.picture == shown[k]  # after a reload too
    assert state.latest is None
    with pytest.raises(NotAssignedError):
        desk.undo(person, shown[0])


def test_requests_that_arrive_twice_do_no_harm(database):
    person, desk = rater(database), RatingDesk(database)
    first = desk.state(person).item.picture
    second = desk.submit(person, first, GOOD).item.picture
    again = desk.submit(person, first, Answer(0, 0))
    assert again.num_rated == 1 and again.item.picture == second
    [stored] = stored_ratings(database)
    assert (stored.rating.sc, stored.rating.pq) == (0, 0)
    desk.undo(person, first)
    with pytest.raises(NotAssignedError):
        desk.undo(person, first)


def test_a_rater_can_neither_rate_nor_see_what_was_not_given(database):
    person, desk = rater(database), RatingDesk(database)
    given = desk.state(person).item
    with database.reading() as connection:
        everything = set(connection.scalars(sa.select(schema.pictures.c.id)))
    seen = {picture for picture in everything if desk.picture(person, picture) is not None}
    assert given.picture in seen and set(given.references[0].pictures) <= seen
    assert len(seen) == 4  # one reference and three outputs
    other = next(iter(everything - seen))
    for picture in (other, given.references[0].pictures[0], "nothing"):
        with pytest.raises(NotAssignedError):
            desk.submit(person, picture, GOOD)
    with pytest.raises(RatingError, match=r"0, 0\.5 or 1"):
        desk.submit(person, given.picture, Answer(0.7, 1))


def test_pictures_are_shown_without_what_their_files_said(database):
    person, desk = rater(database), RatingDesk(database)
    item = desk.state(person).item
    png = desk.picture(person, item.picture)
    assert png.startswith(b"\x89PNG") and b"Software" not in png
    assert not any(method.encode() in png for method in METHODS)


def test_what_is_left_alone_goes_to_somebody_else(new_database, tmp_path, monkeypatch):
    config = StudyConfig(raters_per_image=1, seed=3, lease_days=1)
    database = make_study(tmp_path, num_inputs=1, name=new_database(), config=config)
    first, second, desk = rater(database, "Ada"), rater(database, "Grace"), RatingDesk(database)
    begun = desk.state(first).item
    assert desk.state(second).item is None
    now = assignment.time.time()
    monkeypatch.setattr(assignment.time, "time", lambda: now + 2 * 86_400)
    assert desk.state(second).item is not None
    assert desk.submit(first, begun.picture, GOOD).num_rated == 1  # who comes back late is still welcome


@pytest.mark.parametrize("discard", [False, True])
def test_what_a_revoked_rater_began_goes_to_somebody_else(discard, new_database, tmp_path):
    config = StudyConfig(raters_per_image=1, seed=3)
    database = make_study(tmp_path, num_inputs=2, name=new_database(), config=config)
    first, second = rater(database, "Ada"), rater(database, "Grace")
    rate_all(database, first, most=4)  # one instruction, and one picture of the next
    assert RatingDesk(database).state(second).item is None
    revoke_rater(database, "Ada", discard=discard)
    assert len(rate_all(database, second)) == (6 if discard else 3)
    assert len(stored_ratings(database)) == (6 if discard else 7)


def test_methods_can_be_added_while_people_rate(database, tmp_path):
    done = rater(database)
    rate_all(database, done)
    late = MethodResults(
        "Late", FolderResults(write_method(tmp_path / "Late", [f"subject/{k}.png" for k in range(4)], 9))
    )
    size = add_methods(database, [late])
    assert (size.num_methods, size.num_outputs) == (4, 16)
    assert [method for method, _ in _rest(database, done)] == ["Late"] * 4
    with pytest.raises(RatingError, match="holds the method 'Late' already"):
        add_methods(database, [late])


def _rest(database: Database, person: int) -> list[tuple[str, str]]:
    desk, seen = RatingDesk(database), []
    while (state := desk.state(person)).item is not None:
        seen.append(method_of(database, state.item.picture))
        desk.submit(person, state.item.picture, GOOD)
    return seen


def test_tokens_are_kept_as_hashes_and_end_when_told(database, monkeypatch):
    [ada, grace] = add_raters(database, ["Ada", "Grace"], days=2)
    with database.reading() as connection:
        rows = [str(value) for row in connection.execute(sa.select(schema.raters)) for value in row]
    assert not any(ada.token.partition(".")[2] in value for value in rows)
    assert len(set(ada.token)) > 20 and ada.token != grace.token
    session = sign_in(database, ada.token)
    assert session.visitor.name == "Ada" and check_session(database, session.cookie).name == "Ada"
    for wrong in ("", ".", ada.token[:-1], ada.token + "x", ada.token.replace(".", ""), "ä.ö", "a\0.b", "x" * 5000):
        assert sign_in(database, wrong) is None and check_session(database, wrong) is None
    swapped = ada.token.partition(".")[0] + "." + grace.token.partition(".")[2]
    assert sign_in(database, swapped) is None
    assert check_session(database, ada.token) is None and sign_in(database, session.cookie) is None
    sign_out(database, session.cookie)
    assert check_session(database, session.cookie) is None
    revoked, renewed = sign_in(database, grace.token), sign_in(database, ada.token)
    revoke_rater(database, "Grace")
    assert check_session(database, revoked.cookie) is None and sign_in(database, grace.token) is None
    new = renew_rater(database, "Ada")
    assert check_session(database, renewed.cookie) is None and sign_in(database, ada.token) is None
    assert sign_in(database, new.token) is not None
    [barbara] = add_raters(database, ["Barbara"], days=1)
    session = sign_in(database, barbara.token)
    now = raters.time.time()
    monkeypatch.setattr(raters.time, "time", lambda: now + 86_500)
    assert sign_in(database, barbara.token) is None and check_session(database, session.cookie) is None
    assert [status.state for status in list_raters(database)] == ["active", "revoked", "expired"]


def test_discarded_ratings_stay_discarded(database):
    add_raters(database, ["Ada"])
    revoke_rater(database, "Ada", discard=True)
    revoke_rater(database, "Ada")
    assert [status.state for status in list_raters(database)] == ["discarded"]
    with pytest.raises(RatingError, match="were discarded"):
        renew_rater(database, "Ada")
    add_raters(database, ["Sender"], role="uploader")
    assert renew_rater(database, "Sender").role == "uploader"


def test_secrets_are_compared_in_constant_time(database, monkeypatch):
    compared = []
    monkeypatch.setattr(raters.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    [ada] = add_raters(database, ["Ada"])
    assert sign_in(database, ada.token) is not None
    assert sign_in(database, "nobody.nothing") is None
    assert len(compared) == 2 and all(len(a) == len(b) == 64 for a, b in compared)


def test_uploaders_cannot_rate_and_raters_cannot_upload(database):
    [sender] = add_raters(database, ["Sender"], role="uploader")
    [ada] = add_raters(database, ["Ada"])
    assert sign_in(database, sender.token) is None
    assert check_token(database, sender.token, "uploader").name == "Sender"
    assert check_token(database, ada.token, "uploader") is None


def test_names_of_raters_are_checked(database):
    add_raters(database, ["Ada"])
    for names in (["Ada"], ["Grace", "Grace"], ["New", "Ada"], [""], [" Ada"], ["a\tb"], ["x" * 81]):
        with pytest.raises(RatingError):
            add_raters(database, names)
    assert [status.name for status in list_raters(database)] == ["Ada"]
    for change in (renew_rater, revoke_rater):
        with pytest.raises(RatingError, match="no rater 'Nobody'"):
            change(database, "Nobody")


def test_imported_ratings_count_and_repeat_themselves_harmlessly(database):
    elsewhere = [Rating("subject", f"{k}.jpg", METHODS[0], "rater1", 0.5, 1.0) for k in range(4)]
    assert import_ratings(database, elsewhere) == 4
    assert import_ratings(database, elsewhere) == 0
    assert {stored.rating.uid for stored in stored_ratings(database)} == {f"{k}.png" for k in range(4)}
    [status] = list_raters(database)
    assert (status.state, status.num_ratings, status.num_complete) == ("imported", 4, 0)
    changed = [*elsewhere[:1], Rating("subject", "1.png", METHODS[0], "rater1", 0.0, 1.0)]
    with pytest.raises(RatingError, match="otherwise"):
        import_ratings(database, changed)
    for strange in ("9.png", "0.png.exe"):
        with pytest.raises(RatingError, match="no picture"):
            import_ratings(
                database,
                [
                    Rating("subject", "0.png", METHODS[1], "new", 1, 1),
                    Rating("subject", strange, METHODS[0], "new", 1, 1),
                ],
            )
    assert len(list_raters(database)) == 1  # all or none


def test_what_is_exported_is_what_was_rated(database, tmp_path):
    person = rater(database)
    rate_all(database, person)
    rate_all(database, rater(database, "Grace"), most=4)
    assert export_study(database, tmp_path / "out") == 16
    named = {"Ada [1]", "Ada (1)"}
    for name in named:
        rate_all(database, rater(database, name), most=2)
    export_study(database, tmp_path / "named", names=True)
    assert len(list((tmp_path / "named" / "ratings").glob("*/*_Ada _1_*.tsv"))) >= len(named)
    lines = [json.loads(line) for line in (tmp_path / "out" / "ratings.jsonl").read_text().splitlines()]
    assert len(lines) == 16 and {line["rater"] for line in lines} == {"rater1", "rater2"}
    assert lines[0]["seconds"] == 2.5
    table = (tmp_path / "out" / "ratings" / "subject" / "subject_rater1.tsv").read_text().splitlines()
    assert table[0] == "uid\tSecretAlpha\tSecretBeta\tSecretGamma" and len(table) == 5
    assert "Ada" not in "".join(path.read_text() for path in (tmp_path / "out").rglob("*.*"))
    with pytest.raises(RatingError, match="holds something already"):
        export_study(database, tmp_path / "out")


def test_a_study_is_made_whole_or_not_at_all(new_database, tmp_path):
    name = new_database()
    broken = write_method(tmp_path / "broken", ["subject/0.png", "subject/1.png"], 1)
    (broken / "subject" / "1.png").write_bytes(b"\x89PNG and then nothing")
    from rating_study import plain_inputs

    from instruct_imagen.rating.study import create_study

    with pytest.raises(RatingError, match="damaged or cannot be read|not a picture"):
        create_study(name, StudyConfig(), plain_inputs(2), [MethodResults("broken", FolderResults(broken))])
    assert not any(tmp_path.glob("*.sqlite3*"))
    with pytest.raises(RatingError, match="no study"):
        open_database(name)
    plain_picture(1, 1).save(broken / "subject" / "1.png")
    method = MethodResults("mended", FolderResults(broken))
    create_study(name, StudyConfig(), plain_inputs(2), [method])
    with pytest.raises(RatingError, match="holds a study already"):
        create_study(name, StudyConfig(), plain_inputs(2), [method])
    open_database(name).close()


def test_other_databases_are_refused_in_a_sentence(tmp_path):
    for name in ("mysql://host/study", "://", "sqlite://", "nonsense://"):
        with pytest.raises(RatingError):
            study_url(name)
    (tmp_path / "text.sqlite3").write_text("this is no database, but long enough to look at" * 100)
    with pytest.raises(RatingError, match="cannot be used"):
        open_database(str(tmp_path / "text.sqlite3"))
    with pytest.raises(RatingError, match="cannot be used"):
        open_database("postgresql://nobody@127.0.0.1:1/nothing")


def test_a_study_of_another_version_is_not_opened(database):
    with database.writing() as connection:
        connection.execute(sa.update(schema.study).values(version=99))
    with pytest.raises(RatingError, match="version 99"):
        open_database(database.url.render_as_string(hide_password=False))


def test_seeds_are_random_unless_one_is_given(new_database, tmp_path):
    seeds = []
    for _ in range(2):
        database = make_study(tmp_path, 1, METHODS[:1], new_database(), StudyConfig())
        with database.reading() as connection:
            seeds.append(connection.scalar(sa.select(schema.study.c.seed)))
    assert seeds[0] != seeds[1] and np.log2(max(seeds)) > 40
