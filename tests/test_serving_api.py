"""The server as its clients see it: OpenAI's own client unchanged, streams, cancelling, keys, limits, metadata."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
from pathlib import Path

import httpx2
import numpy as np
import openai
import pytest
from PIL import Image
from serving_support import MODEL, Held, data_url, difference, opened, picture, png, reference_picture, running

from instruct_imagen.instruction import Instruction
from instruct_imagen.serving.finishing import Output, finish
from instruct_imagen.serving.keys import ApiKeys, KeyFileError, RateLimiter
from instruct_imagen.serving.provenance import ProvenanceError, read_provenance
from instruct_imagen.serving.settings import Limits, ServerSettings
from instruct_imagen.serving.watermark import Watermark

STEPS, SIZE = 3, 64
KEY = "a-key-of-the-test-0001"
OTHER_KEY = "a-key-of-the-test-0002"
KEYS = ApiKeys.of([f"first {KEY}", f"second {OTHER_KEY}"], "the test")
MAX_LEVELS = 1  # what rounding may move a picture by in company


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> ServerSettings:
    folder = tmp_path_factory.mktemp("pictures")
    limits = Limits(num_waiting=4, num_running=4, num_images=3, num_steps=400, body_bytes=200_000)
    return ServerSettings(
        MODEL, aliases=("dall-e-2",), keys=KEYS, default_steps=STEPS, default_size_px=SIZE, picture_folder=folder,
        limits=limits,
    )  # fmt: skip


@pytest.fixture(scope="module")
def stage(pipeline) -> Held:
    return Held(pipeline)


@pytest.fixture(scope="module")
def server(pipeline, settings, stage):
    with running(pipeline, settings, [stage]) as found:
        found.http.headers["Authorization"] = f"Bearer {KEY}"
        yield found


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)


def fox_and_style() -> list[tuple[Image.Image, str]]:
    return [(picture(1), ""), (picture(2), ""), (picture(3), "")]


def test_the_official_client_generates(client, pipeline):
    answer = client.images.generate(
        model=MODEL, prompt="a red star", n=2, size="96x96", extra_body={"seed": 7, "guidance_scale": 2.0}
    )
    assert len(answer.data) == 2 and answer.size == "96x96" and answer.created > 1e9
    for number, entry in enumerate(answer.data):
        expected = reference_picture(pipeline, Instruction("a red star"), 7 + number, STEPS, 96, guidance_scale=2.0)
        assert difference(opened(entry.b64_json), expected) <= MAX_LEVELS
        made = read_provenance(base64.b64decode(entry.b64_json))
        assert (made.instruction, made.seed, made.model) == ("a red star", 7 + number, MODEL)
        assert (made.num_inference_steps, made.guidance_scale, made.size_px) == (STEPS, 2.0, 96)


@pytest.mark.parametrize("prompt", ["[ref#1] beside [ref#3], drawn as [ref#2]", "image 1 beside image 3 as image 2"])
def test_the_official_client_edits_with_three_references(client, pipeline, prompt):
    files = [("one.png", png(picture(1)), "image/png"), io.BytesIO(png(picture(2))), png(picture(3))]
    answer = client.images.edit(model="dall-e-2", image=files, prompt=prompt, extra_body={"seed": 3})
    instruction = Instruction.build("[ref#1] beside [ref#3], drawn as [ref#2]", fox_and_style())
    if "image" in prompt:
        instruction = Instruction.build("[ref#1] beside [ref#3] as [ref#2]", fox_and_style())
    expected = reference_picture(pipeline, instruction, 3, STEPS, SIZE)
    assert difference(opened(answer.data[0].b64_json), expected) <= MAX_LEVELS


def test_the_official_client_streams_partial_pictures(client):
    events = list(client.images.generate(prompt="a star", stream=True, partial_images=2, extra_body={"seed": 1}))
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert opened(events[0].b64_json).size == (SIZE, SIZE)
    alone = client.images.generate(prompt="a star", extra_body={"seed": 1}).data[0].b64_json
    assert difference(opened(events[2].b64_json), np.asarray(opened(alone), dtype=int)) <= MAX_LEVELS


def test_the_official_client_lists_models_and_reads_errors(client, server):
    assert [model.id for model in client.models.list()] == [MODEL, "dall-e-2"]
    assert client.models.retrieve(MODEL).owned_by == "instruct-imagen"
    with pytest.raises(openai.NotFoundError, match="does not exist here"):
        client.images.generate(prompt="x", model="another")
    with pytest.raises(openai.BadRequestError, match=r"names \[ref#2\]") as refused:
        client.images.edit(image=png(picture(1)), prompt="[ref#1] and [ref#2]")
    assert refused.value.code == "invalid_instruction"
    with pytest.raises(openai.AuthenticationError, match="not valid"):
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0).models.list()


def test_three_ways_of_sending_pictures_are_one(server):
    images = [png(picture(seed)) for seed in (1, 2)]
    fields = {"prompt": "[ref#1] as [ref#2]", "seed": 5}
    urls = [{"image_url": data_url(image)} for image in images]
    calls = [
        {"files": [("image", images[0]), ("image", images[1])], "data": fields},
        {"files": [("image[]", images[0]), ("image[]", images[1])], "data": fields},
        {"files": [("image[1]", images[1]), ("image[0]", images[0])], "data": fields},
        {"json": {**fields, "images": urls}},
    ]
    answers = [server.http.post("/v1/images/edits", **call) for call in calls]
    assert [answer.status_code for answer in answers] == [200] * 4, [answer.text[:300] for answer in answers]
    assert len({answer.json()["data"][0]["b64_json"] for answer in answers}) == 1


def test_a_mask_keeps_what_it_does_not_cover(server):
    source = picture(4, (SIZE, SIZE))
    mask = Image.new("RGBA", source.size, "white")
    mask.paste((0, 0, 0, 0), (16, 16, 48, 48))
    files = [("image", png(source)), ("mask", png(mask))]
    answer = server.http.post("/v1/images/edits", files=files, data={"prompt": "Make it blue.", "seed": 1})
    content = base64.b64decode(answer.json()["data"][0]["b64_json"])
    changed = (np.asarray(Image.open(io.BytesIO(content))) != np.asarray(source)).any(axis=2)
    inside = np.zeros_like(changed)
    inside[16:48, 16:48] = True
    assert not changed[~inside].any() and changed[20:44, 20:44].mean() > 0.9
    assert read_provenance(content).instruction == "Make it blue. Picture [ref#1], mask [ref#2]."
    wrong = [("image", png(source)), ("mask", png(mask.resize((20, 20))))]
    refused = server.http.post("/v1/images/edits", files=wrong, data={"prompt": "blue"})
    assert refused.status_code == 400 and "same size" in refused.json()["error"]["message"]


def test_pictures_by_url(client, server, settings):
    url = (
        client.images.generate(prompt="a star", response_format="url", extra_body={"output_format": "webp"}).data[0].url
    )
    answer = server.http.get(url)
    assert answer.headers["content-type"] == "image/webp" and read_provenance(answer.content).instruction == "a star"
    assert len(list(settings.picture_folder.iterdir())) == 1
    for name in (
        "..%2f..%2fetc%2fpasswd",
        "x.png",
        "A" * 32 + ".png",
        "%00" * 32 + ".png",
        "a/../" + "A" * 32 + ".png",
    ):
        assert server.http.get(f"/v1/files/{name}").status_code == 404


def native(text: str, *markers: int, **options: object) -> dict[str, object]:
    references = [{"marker": m, "text": "fox", "image": data_url(png(picture(i)))} for i, m in enumerate(markers)]
    return {"instruction": text, "references": references, **options}


def events_of(lines) -> list[tuple[str, dict]]:
    """(name, data) of a stream."""
    found, name = [], ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            found.append((name, json.loads(line.removeprefix("data: "))))
    return found


def test_the_native_endpoint_streams_progress_previews_and_pictures(server, pipeline):
    body = native("two views: [ref#1], as [ref#2]", 1, 1, 2, seed=9, n=2, stream=True, preview_every=2)
    with server.http.stream("POST", "/v1/instruct", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = events_of(answer.iter_lines())
    assert events[0][0] == "accepted" and events[0][1]["seeds"] == [9, 10]
    assert events[-1] == ("done", {"id": events[0][1]["id"], "created": events[-1][1]["created"]})
    steps = [(data["picture"], data["step"]) for name, data in events if name == "progress"]
    assert sorted(steps) == [(picture, step) for picture in (0, 1) for step in (1, 2, 3)]
    previews = [data for name, data in events if name == "progress" and "preview" in data]
    assert sorted((data["picture"], data["step"]) for data in previews) == [(0, 2), (1, 2)]
    assert opened(previews[0]["preview"].partition(",")[2]).size == (pipeline.size_px,) * 2
    pairs = [([picture(0), picture(1)], "fox"), (picture(2), "fox")]
    instruction = Instruction.build("two views: [ref#1], as [ref#2]", pairs)
    for _, data in [event for event in events if event[0] == "picture"]:
        expected = reference_picture(pipeline, instruction, 9 + data["picture"], STEPS, SIZE)
        assert difference(opened(data["b64_json"]), expected) <= MAX_LEVELS


def test_uploaded_and_inline_references_are_one(server):
    body = native("[ref#1]", 1, seed=2)
    inline = server.http.post("/v1/instruct", json=body).json()
    body["references"][0]["image"] = "my fox"
    files = {"request": (None, json.dumps(body)), "my fox": ("fox.png", png(picture(0)))}
    uploaded = server.http.post("/v1/instruct", files=files)
    assert uploaded.status_code == 200, uploaded.text
    assert uploaded.json()["data"] == inline["data"]
    unused = server.http.post("/v1/instruct", files={**files, "another": ("a.png", b"x")})
    assert unused.status_code == 400 and "no reference" in unused.json()["error"]["message"]


def test_a_stream_can_be_cancelled_by_its_own_key_alone(server, stage):
    body = native("a star", stream=True)
    with stage.hold(), server.http.stream("POST", "/v1/instruct", json=body) as one:
        lines = one.iter_lines()
        assert next(lines) == "event: accepted"
        request_id = json.loads(next(lines).removeprefix("data: "))["id"]
        other = server.http.delete(f"/v1/instruct/{request_id}", headers={"Authorization": f"Bearer {OTHER_KEY}"})
        assert other.status_code == 404
        assert server.http.delete(f"/v1/instruct/{request_id}").json() == {"id": request_id, "cancelled": True}
        name, data = events_of(lines)[-1]
        assert name == "error" and data["error"]["code"] == "cancelled"
    server.wait_until(lambda: server.metric("running_pictures") == 0)
    assert server.http.delete(f"/v1/instruct/{request_id}").status_code == 404


@pytest.mark.parametrize("stream", [True, False])
def test_a_dropped_client_frees_its_place(server, stage, stream):
    before, body = server.metric("cancelled_total"), native("a star", stream=stream)
    with stage.hold():
        if stream:
            with server.http.stream("POST", "/v1/instruct", json=body) as answer:
                assert next(answer.iter_lines()) == "event: accepted"
        else:
            with pytest.raises(httpx2.ReadTimeout):
                server.http.post("/v1/instruct", json=body, timeout=2)
        server.wait_until(lambda: server.metric("cancelled_total") == before + 1)
    server.wait_until(lambda: server.metric("running_pictures") == 0)


def test_a_full_queue_is_429_with_retry_after(server, stage):
    body = native("a star", stream=True, n=3)
    with stage.hold(), server.http.stream("POST", "/v1/instruct", json=body) as first:
        lines = first.iter_lines()  # kept: a dropped iterator closes its stream
        assert next(lines) == "event: accepted"
        server.wait_until(lambda: server.metric("running_pictures") == 3)
        with server.http.stream("POST", "/v1/instruct", json=body) as second:
            more_lines = second.iter_lines()
            assert next(more_lines) == "event: accepted"
            refused = server.http.post("/v1/instruct", json={**body, "stream": False})  # three of four places wait
            assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
            assert refused.json()["error"]["code"] == "queue_full"
    server.wait_until(lambda: server.metric("running_pictures") + server.metric("waiting_pictures") == 0)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"n": 4}, 400, "'n' is 4; this server takes 3"),
        ({"num_inference_steps": 401}, 400, "takes 400"),
        ({"guidance_scale": 51}, 400, "takes 50"),
        ({"size": "64x32"}, 400, "square"),
        ({"size": "4096x4096"}, 400, "to 1024x1024"),
        ({"seed": -1}, 400, "'seed'"),
        ({"n": "2"}, 400, "'n'"),
        ({"num_inference_step": 2}, 400, "Unknown parameter: 'num_inference_step'"),
        ({"prompt": None}, 400, "'prompt'"),
        ({"prompt": "x" * 250_000}, 413, "MiB"),
        ({"prompt": "[ref#1]"}, 400, "no reference has marker 1"),
        ({"stream": True, "n": 2}, 400, "one picture"),
    ],
)
def test_bad_requests_are_answered_in_a_sentence(server, body, status, said):
    answer = server.http.post("/v1/images/generations", json={"prompt": "a star", **body})
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"] and answer.json()["error"]["type"] == "invalid_request_error"


def test_health_metrics_and_document(server):
    assert server.http.get("/healthz").json() == {"status": "ok"}
    assert server.http.get("/readyz").json() == {"status": "ready"}
    assert server.metric("pictures_total") > 0 and server.metric("step_seconds_count") > 0
    document = server.http.get("/openapi.json").json()
    assert {"/v1/images/generations", "/v1/images/edits", "/v1/models", "/v1/instruct"} <= set(document["paths"])
    assert set(document["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"]) == {
        "application/json",
        "multipart/form-data",
    }


def test_logs_hold_no_instruction_and_no_key(server, caplog):
    with caplog.at_level(logging.INFO):
        server.http.post("/v1/images/generations", json={"prompt": "a secret wish", "seed": 1})
        server.wait_until(lambda: any(hasattr(record, "fields") for record in caplog.records))
    fields = [record.fields for record in caplog.records if hasattr(record, "fields")][-1]
    assert fields["route"] == "/v1/images/generations" and fields["status"] == 200 and fields["key"] == "first"
    assert fields["drawing"] == {"images": 1, "references": 0, "steps": STEPS, "size_px": SIZE}
    assert "secret wish" not in repr([record.__dict__ for record in caplog.records])
    assert KEY not in repr([record.__dict__ for record in caplog.records])


def test_rates_hold_for_each_key(pipeline):
    limits = Limits(pictures_per_minute=2)
    with running(pipeline, ServerSettings(MODEL, keys=KEYS, default_steps=1, limits=limits)) as server:
        body = {"prompt": "a star", "size": "16x16", "n": 2}
        headers = [{"Authorization": f"Bearer {key}"} for key in (KEY, KEY, OTHER_KEY)]
        answers = [server.http.post("/v1/images/generations", json=body, headers=h) for h in headers]
        assert [answer.status_code for answer in answers] == [200, 429, 200]
        assert 1 <= int(answers[1].headers["Retry-After"]) <= 61
        assert answers[1].json()["error"]["code"] == "rate_limit_exceeded"


def test_a_rate_limiter_fills_again():
    rates = RateLimiter(6)
    assert [rates.take("a", 3, now) for now in (0.0, 0.0)] == [0, 0]
    assert rates.take("a", 1, 0.0) == pytest.approx(10)
    assert rates.take("b", 6, 0.0) == 0 and rates.take("a", 1, 10.0) == 0
    assert rates.take("a", 100, 1000.0) == 0  # more than it ever holds: when it is full, and the debt counts
    assert rates.take("a", 1, 1010.0) > 900


def test_keys_are_read_and_bad_files_refused(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text(f"# mine\n\nstudio {KEY}\n{OTHER_KEY}\n")
    keys = ApiKeys.read(file)
    assert keys.name_of(KEY) == "studio" and keys.name_of(OTHER_KEY) == "key-2" and keys.name_of("") is None
    assert KEY not in repr(keys)
    for text in ("", "short\n", f"a b {KEY}\n", f"a {KEY}\na {OTHER_KEY}\n"):
        file.write_text(text)
        with pytest.raises(KeyFileError):
            ApiKeys.read(file)


def test_metadata_is_read_back_from_every_form(server):
    for form in ("png", "jpeg", "webp"):
        body = native("draw [ref#1] größer", 1, seed=4, output_format=form, image_guidance_scale=1.5)
        content = base64.b64decode(server.http.post("/v1/instruct", json=body).json()["data"][0]["b64_json"])
        assert Image.open(io.BytesIO(content)).format == form.upper()
        made = read_provenance(content)
        assert (made.instruction, made.references, made.seed) == ("draw [ref#1] größer", ((1, "fox"),), 4)
        assert made.image_guidance_scale == 1.5
    with pytest.raises(ProvenanceError):
        read_provenance(png(picture(1)))


def test_the_watermark_is_found_and_not_seen():
    pytest.importorskip("imwatermark", reason="installed without its requirements, see docs/serving.md")
    from instruct_imagen.serving.drawing import DrawRequest

    mark, image = Watermark("IImg"), picture(1, (32, 32))
    request = DrawRequest(Instruction("a star"), (1,), 1)
    plain, marked = (
        Image.open(io.BytesIO(finish(image, request, 0, Output(256), MODEL, chosen))) for chosen in (None, mark)
    )
    assert mark.found_in(marked) and not mark.found_in(plain)
    error = (np.asarray(plain, dtype=float) - np.asarray(marked)) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 28


def test_many_at_once_are_not_crossed(server, pipeline):
    results: dict[int, bytes] = {}

    def ask(seed: int) -> None:
        body = native("draw [ref#1]", 1, seed=seed, num_inference_steps=1 + seed % 4)
        while (answer := server.http.post("/v1/instruct", json=body)).status_code == 429:
            pass
        results[seed] = base64.b64decode(answer.json()["data"][0]["b64_json"])

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    instruction = Instruction.build("draw [ref#1]", [(picture(0), "fox")])
    for seed, content in results.items():
        assert read_provenance(content).seed == seed
        expected = reference_picture(pipeline, instruction, seed, 1 + seed % 4, SIZE)
        assert difference(Image.open(io.BytesIO(content)), expected) <= MAX_LEVELS
    assert len(results) == 8
