"""Input for a command that runs in this process."""

from __future__ import annotations

import io
import sys

import pytest


def fed(monkeypatch: pytest.MonkeyPatch, text: str = "") -> None:
    """Have this be what standard input holds, and no terminal."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
