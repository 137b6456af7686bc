"""The engine: company changes no picture, places are freed, faults stay with their request, stages follow."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import numpy as np
import pytest
import torch
from serving_support import picture

from instruct_imagen.denoising import Denoiser, Denoising
from instruct_imagen.guidance import ConstantGuidance
from instruct_imagen.instruction import Instruction
from instruct_imagen.pipeline import fast_scheduler
from instruct_imagen.serving.drawing import Accepted, DrainingError, Drawn, DrawRequest, EngineError, QueueFullError
from instruct_imagen.serving.engine import LocalEngine
from instruct_imagen.serving.stages import BaseStage

MAX_LEVELS = 1  # of 255: what rounding may move a picture by in company
MAX_FLOAT_DIFFERENCE = 1e-3  # of a range of 2


@pytest.fixture(scope="module")
def requests() -> list[DrawRequest]:
    """Everything different: references, steps, seeds, guidance."""
    one, two = picture(1), picture(2)
    several = Instruction.build(
        "put [ref#1] beside [ref#2], in a forest with a great many more words", [([one, two], "cat"), (picture(3), "")]
    )
    return [
        DrawRequest(Instruction("a red star"), (1,), 3),
        DrawRequest(Instruction.build("draw [ref#1] on a beach", [(one, "fox")]), (2, 3), 5, 2.0, 4.0),
        DrawRequest(several, (4,), 4, 1.0, 1.5),
        DrawRequest(Instruction("a blue star"), (5,), 6, 1.0),
        DrawRequest(several, (6,), 2, 7.0),
    ]


async def draw(engine: LocalEngine, request: DrawRequest) -> list[np.ndarray]:
    images = {}
    async with aclosing(engine.draw(request)) as events:
        async for event in events:
            if isinstance(event, Drawn):
                assert event.picture not in images
                images[event.picture] = np.asarray(event.image, dtype=int)
    return [images[index] for index in range(len(request.seeds))]


def alone(pipeline, request: DrawRequest) -> list[np.ndarray]:
    return [
        np.asarray(
            pipeline(
                request.instruction,
                request.num_inference_steps,
                request.guidance_scale,
                request.image_guidance_scale,
                generator=[torch.Generator().manual_seed(seed)],
            ).images[0],
            dtype=int,
        )
        for seed in request.seeds
    ]


def draw_all(engine: LocalEngine, requests: list[DrawRequest]) -> list[list[np.ndarray]]:
    """All at once; they join while others run, since three have places."""

    async def together() -> list[list[np.ndarray]]:
        return await asyncio.gather(*(draw(engine, request) for request in requests))

    try:
        return asyncio.run(together())
    finally:
        assert engine.close(30)


@pytest.mark.parametrize("exact", [False, True])
def test_a_picture_is_the_same_alone_and_in_company(pipeline, requests, exact):
    drawn = draw_all(LocalEngine([BaseStage(pipeline, exact)], 3, 20), requests)
    for request, images in zip(requests, drawn, strict=True):
        for image, expected in zip(images, alone(pipeline, request), strict=True):
            assert np.abs(image - expected).max() <= (0 if exact else MAX_LEVELS)
    different = [images[0] for images in drawn]
    assert all(np.abs(a - b).max() > 20 for i, a in enumerate(different) for b in different[:i])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_joined_calls_differ_by_rounding_alone(pipeline, requests):
    def begun() -> list[Denoising]:
        stage = BaseStage(pipeline)
        with torch.no_grad():
            return [stage.begin(request, seeded(request.seeds[0]), stage.encode(request), None) for request in requests]

    joined, single = begun(), begun()
    with torch.no_grad():
        for denoiser, denoisings in ((Denoiser(pipeline.unet), joined), (Denoiser(pipeline.unet, False), single)):
            while left := [d for d in denoisings if not d.done]:
                denoiser.step(left)
    for one, other in zip(joined, single, strict=True):
        torch.testing.assert_close(one.sample, other.sample, rtol=0, atol=MAX_FLOAT_DIFFERENCE)


class Gated(BaseStage):
    """A base stage whose every network call waits for a permit, and fails for the marked seeds."""

    def __init__(self, pipeline, failing=()):
        super().__init__(pipeline)
        self.failing, self.batches = failing, []
        self.inner, self.denoiser = self.denoiser, self
        self.seeds = {}

    def begin(self, request, generator, encoded, image):
        denoising = super().begin(request, generator, encoded, image)
        self.seeds[id(denoising)] = generator.initial_seed()
        return denoising

    def predict(self, denoisings):
        seeds = [self.seeds[id(denoising)] for denoising in denoisings]
        self.batches.append(seeds)
        if set(seeds) & set(self.failing):
            raise RuntimeError("cannot be drawn")
        return self.inner.predict(denoisings)


def test_requests_join_and_leave_between_steps(pipeline):
    stage = Gated(pipeline)
    engine = LocalEngine([stage], 2, 20)
    long, short = (DrawRequest(Instruction("a star"), (seed,), steps) for seed, steps in ((1, 8), (2, 2)))
    draw_all(engine, [long, short, DrawRequest(Instruction("a star"), (3, 4), 2)])
    assert max(map(len, stage.batches)) == 2
    assert sum(1 in batch for batch in stage.batches) == 8
    companions = {seed for batch in stage.batches if 1 in batch for seed in batch}
    assert companions == {1, 2, 3, 4}  # all three short ones came and went while the long one ran


def test_a_fault_stays_with_its_request(pipeline, requests):
    stage = Gated(pipeline, failing=(2,))

    async def together():
        return await asyncio.gather(*(draw(engine, request) for request in requests[:3]), return_exceptions=True)

    engine = LocalEngine([stage], 8, 20)
    first, failed, third = asyncio.run(together())
    assert isinstance(failed, EngineError)
    assert np.abs(first[0] - alone(pipeline, requests[0])[0]).max() <= MAX_LEVELS
    assert np.abs(third[0] - alone(pipeline, requests[2])[0]).max() <= MAX_LEVELS
    assert engine.ready() and engine.close(10)


def test_the_queue_is_bounded_and_left_places_are_free_again(pipeline):
    engine = LocalEngine([BaseStage(pipeline)], 1, 2)
    endless = DrawRequest(Instruction("a star"), (1,), 900)

    async def scenario():
        first = engine.draw(endless)
        assert await anext(first) == Accepted(0)
        while engine._waiting:
            await asyncio.sleep(0.01)
        others = [engine.draw(endless) for _ in range(2)]
        assert [await anext(other) for other in others] == [Accepted(0), Accepted(1)]
        with pytest.raises(QueueFullError) as refused:
            await anext(engine.draw(endless))
        assert 1 <= refused.value.retry_after_s <= 60
        for leaving in (first, *others):
            await leaving.aclose()
        return await draw(engine, DrawRequest(Instruction("a star"), (1, 2), 1))

    assert len(asyncio.run(scenario())) == 2
    assert engine.close(10)


def test_draining_finishes_what_was_accepted_and_takes_nothing_new(pipeline, requests):
    engine = LocalEngine([BaseStage(pipeline)], 1, 20)

    async def scenario():
        accepted = [asyncio.ensure_future(draw(engine, request)) for request in requests]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        engine.begin_draining()
        with pytest.raises(DrainingError):
            await draw(engine, requests[0])
        return await asyncio.gather(*accepted)

    assert [len(images) for images in asyncio.run(scenario())] == [len(request.seeds) for request in requests]
    assert engine.close(10) and not engine.ready()


class Refine:
    """A second stage: noise over the picture, and half the way back."""

    name = "refine"

    def __init__(self, pipeline):
        self.pipeline, self.base = pipeline, BaseStage(pipeline)
        self.denoiser = Denoiser(pipeline.unet)

    def encode(self, request):
        return self.base.encode(request)

    def pictures(self, sample):
        return sample

    def begin(self, request, generator, encoded, image):
        scheduler = fast_scheduler(self.pipeline.scheduler.config)
        scheduler.set_timesteps(4)
        scheduler.timesteps, scheduler.sigmas = scheduler.timesteps[2:], scheduler.sigmas[2:]
        noise = torch.randn(image.shape, generator=generator)
        noisy = scheduler.add_noise(image, noise, scheduler.timesteps[:1])
        guidance = ConstantGuidance(request.guidance_scale, request.image_guidance_scale)
        return Denoising(noisy, scheduler, guidance, encoded)


def test_pictures_pass_every_stage(pipeline, requests):
    def progress(events):
        return [(event.stage, event.step) for event in events if not isinstance(event, (Accepted, Drawn))]

    async def scenario(engine):
        request = DrawRequest(requests[1].instruction, (2,), 3, 2.0, progress=True, preview_every=2)
        company = asyncio.ensure_future(draw(engine, requests[2]))
        events = [event async for event in engine.draw(request)]
        await company
        return events

    engine = LocalEngine([BaseStage(pipeline), Refine(pipeline)], 4, 20)
    events = asyncio.run(scenario(engine))
    assert progress(events) == [("base", 1), ("base", 2), ("base", 3), ("refine", 1), ("refine", 2)]
    assert [event.step for event in events if getattr(event, "preview", None) is not None] == [2]
    assert engine.close(10)
