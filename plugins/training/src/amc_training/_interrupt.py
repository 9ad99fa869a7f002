"""Stopping on request: a SIGTERM is remembered, and the loop stops where nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Request", "terminations"]


class Request:
    """Whether somebody asked the training to stop."""

    def __init__(self) -> None:
        self.made = False

    def make(self, _number: int, _frame: FrameType | None) -> None:
        self.made = True


@contextmanager
def terminations() -> Iterator[Request]:
    """Inside, SIGTERM is a request. Only the main thread can listen to signals; elsewhere there is never one."""
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = signal.signal(signal.SIGTERM, request.make)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
