"""Merging of configurations: later values override, ``null`` removes a key, dotted keys reach into sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """``overlay`` over ``base``, recursively; ``None`` removes a key; dotted keys reach into sections."""
    result = dict(base)
    for key, value in overlay.items():
        if "." in key:
            head, _, rest = key.partition(".")
            value, key = {rest: value}, head
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            below = result.get(key)
            result[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            result[key] = value
    return result
