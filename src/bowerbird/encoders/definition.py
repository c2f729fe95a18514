"""What stands where a model's files would, for encoders that are computed: nothing is learned, nothing is downloaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """An encoder in words. The hash of the text says which features they are, as the hash of weights does elsewhere."""

    name: str
    text: str
    revision: str = ""

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def config_sha256(self) -> str:
        """The same, as there is nothing else to know."""
        return self.weights_sha256
