"""Ways in which evaluation code for voice conversion goes wrong, each fed to ours.

What each test names is a *class* of tool. Where a defect was seen in published code or follows from a published
protocol, the docstring says so; none of that code is here. Each test first shows the wrong number, computed as such tools
compute it, and then that ours is another.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from speech import voice

from bowerbird.artifacts.tables import CONVERSIONS
from bowerbird.config.sections.trials import TrialsConfig
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.distortion import mel_cepstral_distortion
from bowerbird.metrics.intelligibility import count_errors, load_normalizer
from bowerbird.metrics.prosody import PitchTrack, prosody_scores
from bowerbird.metrics.speaker import cosine, mean_embedding, similarity_scores
from bowerbird.metrics.statistics import Resampling, equal_error_rate, estimate_mean, point
from bowerbird.stages.corpus.draw_trials import choose_trials
from bowerbird.stages.corpus.trials import find_trial_leaks, trials_hash
from bowerbird.stages.evaluation.aggregate import check_comparable, collect_series
from bowerbird.stages.evaluation.compare import compare

RATE = 16000


def counts(pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """A table of scores of (reference, hypothesis) pairs, as the scorer of intelligibility writes it."""
    rows = []
    for number, (reference, hypothesis) in enumerate(pairs):
        found = count_errors(reference, hypothesis)
        values = {f"word_{name}": value for name, value in vars(found).items()} | {"mwer": found.rate}
        rows += [(f"t{number}", name, float(value)) for name, value in values.items()]
    table = pd.DataFrame(rows, columns=["trial_id", "metric", "value"])
    shared = dict.fromkeys(
        (
            "source_speaker",
            "target_speaker",
            "source_gender",
            "target_gender",
            "language",
            "condition",
            "note",
            "model",
            "weights_sha256",
            "normalizer",
        ),
        "",
    )
    return table.assign(**shared, definition=table["metric"] + "@1")


def rates(pairs: list[tuple[str, str]]) -> dict[str, float]:
    series = collect_series({Path("system/intelligibility.parquet"): counts(pairs)})
    return {item.metric: point(item.columns(item.scored), item.statistic) for item in series}


def test_01_a_mean_of_utterance_rates_is_not_called_wer() -> None:
    """Lists of synthesis tests are commonly averaged an utterance at a time: one short word weighs as nine."""
    found = rates([("yes", "no"), ("a b c d e f g h i", "a b c d e f g h i")])
    assert found["mwer"] == 0.5
    assert found["wer"] == pytest.approx(0.1)


def test_02_an_empty_hypothesis_is_not_skipped() -> None:
    """Scripts that skip "utterances without a transcript" reward systems that produce noise."""
    pairs = [("one two three four", "one two three four"), ("five six seven eight", "")]
    skipping = [pair for pair in pairs if pair[1]]
    assert rates(skipping)["wer"] == 0.0
    assert rates(pairs)["wer"] == 0.5


def test_03_failed_conversions_are_not_dropped(tmp_path: Path) -> None:
    """Scripts that walk over the files that exist (`if not exists: continue`) score the successes only."""
    from speech import IDENTITY, make_study

    from bowerbird.artifacts.tables import read_table, write_table
    from bowerbird.stages.evaluation.trial_data import TrialData

    study = make_study(tmp_path)
    made = read_table(study.trials).assign(
        spoken_utt="", path="", sha256="", num_samples=0, heard_s=0.0, gain_db=0.0, limited=False, status="ok", error=""
    )
    write_table(tmp_path / "made.parquet", made.iloc[:2], IDENTITY, CONVERSIONS)
    with pytest.raises(BowerbirdError, match="1 trials are not the ones of"):
        TrialData.load(tmp_path / "made.parquet", study.trials, study.manifest, study.audio)


def test_04_case_and_punctuation_are_no_errors() -> None:
    """Comparing a recognizer's "Mr. Smith's 20%" with a corpus's "MISTER SMITH'S TWENTY PERCENT" word by word."""
    reference, hypothesis = "MISTER SMITH, IT'S TWENTY PERCENT", "Mr. Smith, it's 20%."
    assert count_errors(reference, hypothesis).rate > 0.7
    normalize = load_normalizer("whisper-english")
    assert count_errors(normalize(reference), normalize(hypothesis)).rate == 0.0


def test_05_reference_and_hypothesis_are_not_exchanged() -> None:
    """Exchanged, insertions become deletions and the rate is over the wrong length; it can then never exceed 1."""
    reference, hypothesis = "yes", "no no no"
    assert count_errors(hypothesis, reference).rate == 1.0
    assert count_errors(reference, hypothesis).rate == 3.0


def test_06_error_rates_under_two_normalizers_never_meet() -> None:
    one, two = counts([("a b", "a b")]).assign(normalizer="one"), counts([("a b", "a")]).assign(normalizer="two")
    with pytest.raises(BowerbirdError, match=r"normalizer 'one' in .*'two' in"):
        check_comparable({Path("a/i.parquet"): one, Path("b/i.parquet"): two})


def test_07_similarity_is_not_to_the_utterance_the_system_was_given() -> None:
    """A converter that plays its prompt back wins where the prompt is the verifier's reference."""
    rng = np.random.default_rng(0)
    target = rng.normal(size=64)
    prompt, heldout = target + rng.normal(size=64), target + rng.normal(size=64)
    scores = similarity_scores(converted=prompt, heldout=heldout, references=[prompt], source=rng.normal(size=64))
    assert scores["secs_prompt"] == pytest.approx(1.0)
    assert scores["secs"] < 0.9
    trials = choose_trials(corpus(), TrialsConfig(reference_s=60.0))
    assert not any(t["heldout_utt"] in t["reference_utts"] for t in trials.to_dict("records"))


def test_08_a_loud_reference_does_not_decide_the_voice() -> None:
    """Averaging raw embeddings weighs them by their norm."""
    soft, loud = np.array([1.0, 0.0]), np.array([0.0, 10.0])
    assert cosine(np.mean([soft, loud], axis=0), soft) < 0.11
    assert cosine(mean_embedding([soft, loud]), soft) == pytest.approx(np.sqrt(0.5))


def test_09_the_two_equal_error_rates_have_two_names_and_directions() -> None:
    """Tables print "EER" with an arrow up or down; the better system wins both ways only if each is named."""
    rng = np.random.default_rng(1)
    real, other = rng.normal(0.8, 0.05, 200), rng.normal(0.3, 0.05, 200)
    good, poor = rng.normal(0.78, 0.05, 200), rng.normal(0.45, 0.1, 200)

    def eer(positives: np.ndarray, negatives: np.ndarray) -> float:
        return point((positives, negatives), equal_error_rate)

    assert eer(real, good) > 0.3 > 0.1 > eer(real, poor)  # indistinguishability: higher is better
    assert eer(good, other) < 0.01 < eer(poor, other)  # verification: lower is better
    names = {item.metric for item in collect_series({Path("s/speaker.parquet"): cosines(real, good, other)})}
    assert {"eer_ind", "eer_ver"} <= names and "eer" not in names


def cosines(real: np.ndarray, converted: np.ndarray, other: np.ndarray) -> pd.DataFrame:
    table = counts([("a", "a")]).iloc[:0]
    for name, column in (("secs_real", real), ("secs", converted), ("secs_other", other)):
        rows = pd.DataFrame({"trial_id": [f"t{n}" for n in range(len(column))], "metric": name, "value": column})
        table = pd.concat([table, rows.assign(definition=f"{name}@1")], ignore_index=True)
    return table.fillna("")


def test_10_equal_scores_are_one_threshold() -> None:
    """Sorting scores and walking over them one at a time lets ties fall as the sort happens to leave them."""
    ties = np.full(50, 0.5)
    assert point((ties, ties), equal_error_rate) == pytest.approx(0.5)


def test_11_unvoiced_zeros_do_not_make_a_correlation() -> None:
    """F0 in Hz with zeros correlated whole, as circulating scripts do: voicing alone gives 0.9 for flat pitch."""
    voiced = np.arange(300) % 60 < 40
    melody = np.where(voiced, 140 * 2 ** (np.sin(np.arange(300) / 11) / 5), 0.0)
    flat = np.where(voiced, 140.0, 0.0)
    assert np.corrcoef(melody, flat)[0, 1] > 0.9
    scores, _ = prosody_scores(PitchTrack(flat, voiced), PitchTrack(melody, voiced))
    assert scores["f0_pcc"] == 0.0


def test_12_a_longer_conversion_is_cut_not_stretched() -> None:
    """Resampling both tracks to one length moves every syllable of the longer one."""
    melody = 140 * 2 ** (np.sin(np.arange(300) / 7) / 5)
    longer = np.concatenate([melody, np.full(80, 140.0)])  # the same words and a tail
    stretched = np.interp(np.linspace(0, 379, 300), np.arange(380), longer)
    assert np.corrcoef(np.log(stretched), np.log(melody))[0, 1] < 0.5
    everywhere = np.ones(300, bool), np.ones(380, bool)
    scores, _ = prosody_scores(PitchTrack(longer, everywhere[1]), PitchTrack(melody, everywhere[0]))
    assert scores["f0_pcc"] == pytest.approx(1.0)


def test_13_the_targets_register_is_no_pitch_error() -> None:
    """F0 RMSE in Hz against the source punishes a conversion for sounding like its target."""
    melody = 110 * 2 ** (np.sin(np.arange(200) / 7) / 5)
    assert np.sqrt(np.mean((2 * melody - melody) ** 2)) > 100
    everywhere = np.ones(200, bool)
    scores, _ = prosody_scores(PitchTrack(2 * melody, everywhere), PitchTrack(melody, everywhere))
    assert scores["f0_rmse_centred"] == pytest.approx(0.0, abs=1e-9)


def test_14_distortion_is_aligned_in_time_and_without_loudness() -> None:
    """Frame by frame, a pause at the start makes the same speech a different one; with c0, so does the volume."""
    from bowerbird.metrics.distortion import mel_cepstra

    wave = voice(120, 1.0, 0).astype(np.float32) / 32768
    later = np.concatenate([np.zeros(1600, np.float32), wave])
    ours, theirs = mel_cepstra(later), mel_cepstra(wave)
    unaligned = 10 / np.log(10) * np.sqrt(2 * ((ours[: len(theirs)] - theirs) ** 2).sum(axis=1)).mean()
    assert mel_cepstral_distortion(later, wave) < unaligned / 4
    assert mel_cepstral_distortion(0.8 * wave, wave) < 1.0


@pytest.mark.slow
def test_15_short_clips_are_scored_by_their_speech() -> None:
    """DNSMOS reads 9.01 s. Padding 2 s with silence lets it score the silence; ours repeats the speech."""
    from bowerbird.metrics.quality import DnsmosScorer

    scorer = DnsmosScorer()
    noise = (0.1 * np.random.default_rng(0).normal(size=2 * RATE)).astype(np.float32)
    repeated = np.resize(noise, int(9.01 * RATE) + 1)
    padded = np.concatenate([noise, np.zeros(len(repeated) - len(noise), np.float32)])
    own, same, other = (scorer.score(w)["dnsmos_bak"] for w in (noise, repeated, padded))
    assert abs(other - same) > 0.05 > 5 * abs(own - same)


def test_16_audio_is_resampled_with_a_filter() -> None:
    """Taking every third sample of 48 kHz folds 12 kHz into the band that every model reads."""
    from bowerbird.audio import resample

    tone = np.sin(2 * np.pi * 12000 * np.arange(48000) / 48000).astype(np.float32)
    assert np.abs(tone[::3]).max() > 0.5
    assert np.abs(resample(tone, 48000)[200:-200]).max() < 0.01


def test_17_batches_do_not_change_an_embedding(tmp_path: Path) -> None:
    """Zeros that pad a batch are speech to models without an attention mask."""
    import torch
    from tiny_xvector import write_xvector

    from bowerbird.encoders.verifiers import load_verifier

    model = write_xvector(tmp_path, normalizes=False)
    wave = voice(120, 1.0, 0).astype(np.float32) / 32768
    padded = torch.from_numpy(np.concatenate([wave, np.zeros(3 * RATE, np.float32)]))[None]
    with torch.no_grad():
        alone, batched = model(torch.from_numpy(wave)[None]).embeddings[0], model(padded).embeddings[0]
    assert cosine(alone.numpy(), batched.numpy()) < 0.999
    verifier = load_verifier(str(tmp_path))
    assert (verifier.embed([wave, np.tile(wave, 4)])[0] == verifier.embed([wave])[0]).all()


def corpus(speakers: int = 4, each: int = 8) -> pd.DataFrame:
    rows = [
        {
            "utt_id": f"s{s}_{n}",
            "speaker": f"s{s}",
            "gender": "FM"[s % 2],
            "language": "en",
            "session": f"c{n % 2}",
            "text": f"Sentence {10 * s + n}.",
            "duration_s": 2.0,
            "split": "test",
        }
        for s in range(speakers)
        for n in range(each)
    ]
    return pd.DataFrame(rows)


def test_18_a_list_does_not_depend_on_the_order_of_files() -> None:
    """`random.choice` over an unsorted glob: another disk, another list, under the same seed."""
    table, options = corpus(), TrialsConfig()
    shuffled = table.sample(frac=1, random_state=1)
    draw = [np.random.default_rng(0).choice(t["utt_id"].to_numpy()) for t in (table, shuffled)]
    assert draw[0] != draw[1]
    assert trials_hash(choose_trials(table, options)) == trials_hash(choose_trials(shuffled, options))


def test_19_the_heldout_chapter_does_not_leak_into_the_prompt() -> None:
    """One chapter has one room and one day: a verifier is sensitive to them too."""
    table = corpus()
    loose, strict = (
        choose_trials(table, TrialsConfig(reference_s=60.0, pools=pools)) for pools in ("utterance", "session")
    )
    leak = "a reference is of the session of the held-out utterance"
    assert find_trial_leaks(loose, table)[leak] > 0 and find_trial_leaks(strict, table)[leak] == 0


def test_20_trials_that_share_speakers_are_not_independent() -> None:
    """Mean plus or minus 1.96 standard errors over trials: forty trials of four speakers are not forty experiments."""
    speakers = [f"s{n % 4}" for n in range(40)]
    values = np.array([n % 4 for n in range(40)], float)
    naive = 2 * 1.96 * values.std() / np.sqrt(40)
    found = estimate_mean(values, speakers, ["t"] * 40, Resampling(500))
    assert found.high - found.low > 2 * naive
    assert found.note.startswith("descriptive only")


def test_21_the_best_of_many_is_not_significant_by_chance() -> None:
    """Ten equal systems: the smallest of 45 p-values is small, and says nothing."""
    rng = np.random.default_rng(5)  # a draw in which some raw p is below 0.05
    speakers = {
        "source_speaker": [f"s{n // 10}" for n in range(100)],
        "target_speaker": [f"t{n % 10}" for n in range(100)],
    }
    tables = {}
    for system in range(10):
        column = rng.normal(0.5, 0.1, 100)
        tables[Path(f"sys{system}/speaker.parquet")] = (
            cosines(column, column, column)
            .query("metric == 'secs'")
            .assign(source_speaker=speakers["source_speaker"], target_speaker=speakers["target_speaker"])
        )
    rows = pd.DataFrame(compare([s for s in collect_series(tables) if s.metric == "secs"], Resampling(500)))
    assert len(rows) == 45 and rows["p_value"].min() < 0.05
    assert rows["p_holm"].min() > 0.05 and (rows["mark"] == "").all()
