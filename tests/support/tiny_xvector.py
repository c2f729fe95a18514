"""A tiny WavLM with an x-vector head and random weights, saved as the hub's models are."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_xvector(folder: Path, normalizes: bool = True) -> Any:
    """Write the model into ``folder`` and return it; embeddings have 10 values."""
    import torch
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        tdnn_dim=(8, 8, 8, 8, 12),
        xvector_output_dim=10,
    )
    model = WavLMForXVector(config).eval()
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=normalizes).save_pretrained(folder)
    return model
