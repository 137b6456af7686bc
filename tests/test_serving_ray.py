"""The server on a Ray cluster of two nodes on this machine, one of which is killed under load."""

from __future__ import annotations

import base64
import io
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from PIL import Image
from ray_cluster import two_nodes
from serving_support import MODEL, data_url, difference, picture, png, reference_picture

from instruct_imagen.instruction import Instruction
from instruct_imagen.serving.provenance import read_provenance
from instruct_imagen.serving.settings import Limits, ServerError, ServerSettings

pytest.importorskip("ray.serve", exc_type=ImportError)

NUM_REQUESTS, CONCURRENCY, STEPS, SIZE = 60, 12, 40, 32
MAX_LEVELS = 1  # what rounding may move a picture by in company


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def cluster(monkeypatch):
    from ray import serve

    for name in ("READY_CHECK", "HEALTH_CHECK"):
        monkeypatch.setenv(f"RAY_SERVE_PROXY_{name}_TIMEOUT_S", "60")  # a busy machine is no broken one
    monkeypatch.setenv("RAY_worker_niceness", "0")
    with two_nodes(monkeypatch, Path(__file__).parents[1] / "src") as found:
        yield found
        serve.shutdown()


def num_replicas() -> int:
    from ray import serve

    status = serve.status().applications["instruct-imagen"].deployments["drawer"]
    return status.replica_states.get("RUNNING", 0)


@pytest.mark.slow
def test_replicas_are_added_and_a_killed_one_loses_no_request(cluster, model_folder, pipeline):
    from instruct_imagen.serving.ray_serve import RayOptions, start_on_ray

    (found, nodes), port = cluster, free_port()
    limits = Limits(num_running=2, num_waiting=NUM_REQUESTS)
    settings = ServerSettings(str(model_folder), default_size_px=SIZE, limits=limits, grace_seconds=5)
    start_on_ray(settings, RayOptions(port=port, min_replicas=1, max_replicas=2, upscale_delay_s=1))
    client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=300, trust_env=False)
    assert client.get("/readyz").json() == {"status": "ready"} and num_replicas() == 1

    def ask(seed: int) -> httpx2.Response:
        reference = {"marker": 1, "text": "fox", "image": data_url(png(picture(seed)))}
        body = {"instruction": "draw [ref#1]", "references": [reference], "seed": seed, "num_inference_steps": STEPS}
        return client.post("/v1/instruct", json=body)

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        warming = [pool.submit(ask, seed) for seed in range(NUM_REQUESTS)]
        deadline = time.monotonic() + 240
        while num_replicas() < 2:  # autoscaling
            assert time.monotonic() < deadline and len(warming) < 40 * NUM_REQUESTS
            if all(call.done() for call in warming):
                warming += [pool.submit(ask, seed) for seed in range(NUM_REQUESTS)]
            time.sleep(0.2)
        assert {call.result().status_code for call in warming} == {200}
        calls = [pool.submit(ask, seed) for seed in range(NUM_REQUESTS)]
        while sum(call.done() for call in calls) < NUM_REQUESTS // 6:
            time.sleep(0.02)
        found.remove_node(nodes[1], allow_graceful=False)
        answers = [call.result() for call in calls]
    assert [answer.status_code for answer in answers] == [200] * NUM_REQUESTS
    for seed, answer in enumerate(answers):
        content = base64.b64decode(answer.json()["data"][0]["b64_json"])
        assert read_provenance(content).seed == seed
        instruction = Instruction.build("draw [ref#1]", [(picture(seed), "fox")])
        expected = reference_picture(pipeline, instruction, seed, STEPS, SIZE)
        assert difference(Image.open(io.BytesIO(content)), expected) <= MAX_LEVELS
    lines = client.get("/metrics").text.splitlines()
    repeated = [line for line in lines if line.startswith("instruct_imagen_repeated_total")]
    assert float(repeated[0].split()[1]) >= 1  # some were lost with the replica, and drawn again
    body = {"instruction": "a star", "stream": True, "preview_every": 5, "num_inference_steps": 10}
    events = [line for line in client.post("/v1/instruct", json=body).text.splitlines() if line.startswith("event")]
    assert events.count("event: progress") == 10 and events[-1] == "event: done"


@pytest.mark.slow
def test_a_missing_cluster_is_said():
    from instruct_imagen.serving.ray_serve import RayOptions, start_on_ray

    with pytest.raises(ServerError, match="did not start on Ray"):
        start_on_ray(ServerSettings(MODEL), RayOptions(address="127.0.0.1:1"))
