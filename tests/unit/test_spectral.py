"""Log-mel features: frame counts, conventions, and independence of windows."""

import pytest
import torch

from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.extractors import FeatureExtractor
from bowerbird.nn.mel import LogMel


def extractor(**options: object) -> FeatureExtractor:
    return FeatureExtractor(FeaturesConfig(encoder="log-mel", layer=0, **options))


@pytest.mark.parametrize("samples", [0, 1, 200, 399, 400, 640, 641, 16_000])
def test_a_frame_for_each_320_samples_and_never_none(samples: int) -> None:
    features = extractor().extract(0.1 * torch.randn(samples))
    assert features.shape == (max(1, samples // 320), 80)


def test_it_is_the_spectrogram_of_the_vocoder_loss() -> None:
    wave = 0.1 * torch.randn(16_000)
    expected = LogMel()(wave[None])[0]
    assert (extractor().extract(wave) - expected).abs().max() < 6e-3  # float16


def test_windows_leave_no_seam() -> None:
    wave = 0.1 * torch.randn(8 * 16_000 + 77)
    whole, cut = extractor(), extractor(max_window_s=3.0, overlap_s=1.0)
    assert torch.equal(whole.extract(wave), cut.extract(wave))


def test_a_spectrogram_has_no_layer() -> None:
    with pytest.raises(
        ValueError, match=r"log-mel: has no layers.*leave layer, layers, normalize_input and precision at"
    ):
        FeaturesConfig(encoder="log-mel", layer=3)
