"""Every metric: name, heading, unit and direction, stated once."""

from __future__ import annotations

import math
from dataclasses import dataclass

NO_VALUE = "–"  # shown where there is none


@dataclass(frozen=True)
class Metric:
    """How a metric is shown: its heading, which direction is better (0: neither), its unit and digits."""

    name: str
    heading: str
    better: int
    says: str
    places: int = 3
    percent: bool = False
    headline: bool = True

    @property
    def arrow(self) -> str:
        return {1: "↑", -1: "↓", 0: ""}[self.better]

    @property
    def direction(self) -> str:
        return {1: "higher is better", -1: "lower is better", 0: "neither direction is better"}[self.better]

    def show(self, value: float | None) -> str:
        """A value for the eye, without its unit."""
        if value is None or not math.isfinite(value):
            return NO_VALUE
        text = f"{100 * value:.1f}" if self.percent else f"{value:.{self.places}f}"
        return text.replace("-", "\u2212")


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "sentence_accuracy",
            "Sentence",
            1,
            "trials whose sentence was recognized among all the trials' sentences",
            percent=True,
        ),
        Metric("wer", "WER", -1, "word errors over words of the reference, pooled over trials", percent=True),
        Metric("cer", "CER", -1, "character errors over characters of the reference, pooled over trials", percent=True),
        Metric(
            "dwer",
            "dWER",
            -1,
            "word errors against what the same recognizer hears in the source, pooled",
            percent=True,
            headline=False,
        ),
        Metric("secs", "SECS", 1, "cosine of conversion and held-out utterance of the target, which no system heard"),
        Metric("src", "SRC", -1, "cosine of conversion and source: how much of the source's voice is left"),
        Metric(
            "nearer_target",
            "Nearer target",
            1,
            "trials whose conversion is nearer to the target than to the source",
            percent=True,
        ),
        Metric("f0_pcc", "F0 PCC", 1, "correlation of log F0 with the source, over frames voiced in both"),
        Metric("dnsmos_ovrl", "DNSMOS", 1, "estimated overall opinion score (P.835), 1 to 5", places=2),
        Metric("dnsmos_p808", "P.808", 1, "estimated opinion score (P.808), 1 to 5", places=2),
        Metric("mwer", "mWER", -1, "mean over trials of each one's own rate", percent=True, headline=False),
        Metric("mcer", "mCER", -1, "mean over trials of each one's own rate", percent=True, headline=False),
        Metric(
            "secs_prompt",
            "SECS to the references",
            1,
            "cosine with the mean of the references, which the system heard",
            headline=False,
        ),
        Metric("margin", "SECS − SRC", 1, "how much nearer to the target than to the source", headline=False),
        Metric(
            "secs_rel",
            "SECS rel",
            1,
            "share of the way from the source's voice to the target's own speech",
            percent=True,
            headline=False,
        ),
        Metric(
            "acc_eer",
            "ACC@EER",
            1,
            "conversions that the verifier accepts at its own equal-error threshold",
            percent=True,
            headline=False,
        ),
        Metric(
            "eer_ind",
            "EER ind",
            1,
            "telling real target speech from converted: 50 % is as near as real speech",
            percent=True,
            headline=False,
        ),
        Metric(
            "eer_ver",
            "EER ver",
            -1,
            "telling the conversion's target from a third speaker",
            percent=True,
            headline=False,
        ),
        *(
            Metric(
                f"{name}_second",
                f"{heading}, second verifier",
                better,
                "as its namesake, by the second verifier",
                percent=percent,
                headline=False,
            )
            for name, heading, better, percent in (
                ("secs", "SECS", 1, False),
                ("secs_prompt", "SECS to the references", 1, False),
                ("src", "SRC", -1, False),
                ("margin", "SECS − SRC", 1, False),
                ("nearer_target", "Nearer target", 1, True),
                ("secs_rel", "SECS rel", 1, True),
                ("acc_eer", "ACC@EER", 1, True),
                ("eer_ind", "EER ind", 1, True),
                ("eer_ver", "EER ver", -1, True),
            )
        ),
        Metric("epcc", "Energy PCC", 1, "correlation of energy in dB with the source", headline=False),
        Metric(
            "f0_pcc_zeros",
            "F0 PCC with zeros",
            0,
            "FreeVC's definition, for comparison with published tables only: mostly measures voicing",
            headline=False,
        ),
        Metric(
            "mcd", "MCD", -1, "mel-cepstral distortion to the target saying the sentence, dB", places=2, headline=False
        ),
        Metric("f0_rmse_centred", "F0 RMSE", -1, "semitones, each track's own mean removed", places=2, headline=False),
        Metric("vuv_f1", "Voicing F1", 1, "voiced frames against the source's", headline=False),
        Metric(
            "dnsmos_sig", "DNSMOS SIG", 1, "estimated opinion of the speech (P.835), 1 to 5", places=2, headline=False
        ),
        Metric(
            "dnsmos_bak",
            "DNSMOS BAK",
            1,
            "estimated opinion of the background (P.835), 1 to 5",
            places=2,
            headline=False,
        ),
    )
}


OPINIONS = {"utmos": "UTMOS", "nisqa": "NISQA"}
