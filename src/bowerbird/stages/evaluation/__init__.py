"""The version of the stage *evaluation*: raised when the same conversions give other numbers or other columns."""

from __future__ import annotations

VERSION = 3
