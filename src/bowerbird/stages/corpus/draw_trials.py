"""Drawing trials: sources, targets and references of one split, by the seed alone."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from bowerbird.artifacts.tables import TRIALS
from bowerbird.config.sections.trials import TrialsConfig
from bowerbird.errors import BowerbirdError


def choose_trials(table: pd.DataFrame, options: TrialsConfig) -> pd.DataFrame:
    """Trials over the speakers of ``table`` (one split of the manifest), in the order of their ids.

    Ids are sorted bytewise before anything is drawn, so the list depends on the manifest's content and the seed alone.
    Of each target: whole reference utterances until `reference_s` is reached, and one held-out utterance for the judge.
    """
    rows = {r["utt_id"]: r for r in table.to_dict("records")}
    speakers = sorted(set(table["speaker"]), key=str.encode)
    if len(speakers) < 3:
        raise BowerbirdError(
            f"trials.split = {options.split!r}: {len(speakers)} speakers there; a trial needs a source, a target and a third "
            "speaker for the lower anchor. Choose another split or raise corpus.test_speakers"
        )
    own = {s: sorted((u for u, r in rows.items() if r["speaker"] == s), key=str.encode) for s in speakers}
    trials = []
    for speaker in speakers:
        rng = np.random.Generator(np.random.PCG64([options.seed, *speaker.encode()]))
        with_text = [u for u in own[speaker] if rows[u]["text"]] or own[speaker]
        count = min(options.sources_per_speaker, len(with_text))
        for source in sorted((with_text[i] for i in rng.permutation(len(with_text))[:count]), key=str.encode):
            targets = _targets(rows[source], speakers, own, rows, options)
            chosen = [targets[i] for i in rng.permutation(len(targets))[: options.targets_per_source]]
            for target in sorted(chosen, key=str.encode):
                third = [s for s in speakers if s not in (speaker, target)]
                trials += _trials(rows[source], target, third, own, rows, options)
    if not trials:
        raise BowerbirdError(
            "trials: none fit; look at trials.cross_gender, cross_language and pools, and at the speakers' genders, "
            "languages and sessions in the manifest"
        )
    return pd.DataFrame(trials)[TRIALS.names].sort_values(
        "trial_id", key=lambda ids: ids.map(str.encode), ignore_index=True
    )


def _targets(source: dict, speakers: list[str], own: dict, rows: dict, options: TrialsConfig) -> list[str]:
    """Speakers a source may be converted to: of the wanted gender (unknown is none), with two utterances of other words.

    One of them is heard by the system, the other by the judge; neither may say what the source says.
    """
    fitting = []
    for speaker in speakers:
        other = [u for u in own[speaker] if not _same_words(rows[u], source)]
        if speaker == source["speaker"] or len(other) < 2:
            continue
        if options.pools == "session" and len({rows[u]["session"] for u in other} - {""}) < 2:
            continue
        same_language = rows[own[speaker][0]]["language"] == source["language"]
        if options.cross_language != "any" and same_language != (options.cross_language == "same"):
            continue
        genders = {rows[own[speaker][0]]["gender"], source["gender"]}
        known = "" not in genders
        if options.cross_gender == "any" or (known and (len(genders) == 1) == (options.cross_gender == "same")):
            fitting.append(speaker)
    return fitting


def _trials(source: dict, target: str, third: list[str], own: dict, rows: dict, options: TrialsConfig) -> list[dict]:
    """A trial for each condition; what is drawn depends on the seed, the source and the target alone.

    All conditions share held-out utterance, third speaker and order of references: 3 s are the beginning of 10 s.
    """
    pair = f"{source['utt_id']}--{target}"
    rng = np.random.Generator(np.random.PCG64([options.seed, *pair.encode()]))
    parallel = [u for u in own[target] if _same_words(rows[u], source)]
    order = [own[target][i] for i in rng.permutation(len(own[target]))]
    heldout, *free = [u for u in order if u not in parallel]
    if options.pools == "session":
        free = [u for u in free if rows[u]["session"] != rows[heldout]["session"]]
    stranger = third[rng.integers(len(third))]
    shared = {
        "source_utt": source["utt_id"],
        "source_speaker": source["speaker"],
        "source_gender": source["gender"],
        "target_speaker": target,
        "target_gender": rows[heldout]["gender"],
        "heldout_utt": heldout,
        "parallel_utt": parallel[0] if parallel else "",
        "random_speaker_utt": own[stranger][rng.integers(len(own[stranger]))],
        "text": source["text"],
        "language": source["language"],
    }
    trials = []
    for wanted in options.conditions or [options.reference_s]:
        references, seconds = take_references(free, rows, wanted)
        name = f"{pair}--{wanted:g}s" if options.conditions else pair
        facts = {"trial_id": name, "reference_utts": references, "reference_s": round(seconds, 4)}
        trials.append({**shared, **facts, "condition": f"{wanted:g}s"})
    return trials


def take_references(free: list[str], rows: dict, wanted: float) -> tuple[list[str], float]:
    """Whole utterances in order until ``wanted`` seconds are reached, and their length."""
    references, seconds = [], 0.0
    for utt_id in free:
        references.append(utt_id)
        seconds += rows[utt_id]["duration_s"]
        if seconds >= wanted:
            break
    return references, seconds


def _same_words(one: dict, other: dict) -> bool:
    """Whether two utterances say the same, as far as their transcripts tell."""
    return bool(_words(one["text"])) and _words(one["text"]) == _words(other["text"])


def _words(text: str) -> str:
    """Text without case and punctuation, to find the same sentence."""
    return " ".join(re.findall(r"\w+", text.lower()))
