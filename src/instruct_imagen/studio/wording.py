"""Errors of the page in words: a sentence where the visitor looks, a traceback in the server's log at most."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from ..errors import UserError

UNEXPECTED = "The studio failed at this; its terminal says more."
_log = logging.getLogger(__name__)


def sentence(error: UserError) -> str:
    """The error's message with a capital letter."""
    return str(error)[:1].upper() + str(error)[1:]


@contextmanager
def _shown() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise gr.Error(sentence(error), duration=30, print_exception=False) from None
    except Exception as error:
        _log.exception("the studio failed")
        raise gr.Error(UNEXPECTED, duration=30, print_exception=False) from error


def in_words(handler: Callable[..., Any]) -> Callable[..., Any]:
    """An event's handler, or generator of updates, whose errors become messages on the page."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def generating(*values: Any) -> Iterator[Any]:
            with _shown():
                yield from handler(*values)

        return generating

    @functools.wraps(handler)
    def handling(*values: Any) -> Any:
        with _shown():
            return handler(*values)

    return handling


def in_answer(function: Callable[[dict[str, Any]], str]) -> Callable[[Any], dict[str, str]]:
    """A function that a script of the page calls: {"name": its result}, or {"error": the sentence}."""

    @functools.wraps(function)
    def answering(request: Any) -> dict[str, str]:
        try:
            return {"name": function(request if isinstance(request, dict) else {})}
        except UserError as error:
            return {"error": sentence(error)}
        except Exception:
            _log.exception("the studio failed")
            return {"error": UNEXPECTED}

    return answering
