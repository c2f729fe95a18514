"""Trials drawn from one split: sources, targets and references, by the seed alone."""

from __future__ import annotations

import pandas as pd

from bowerbird.config.sections.trials import TrialsConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus.trial_rows import (
    Trial,
    UtteranceTable,
    have_same_words,
    trial_generator,
    trial_table,
)


def choose_trials(manifest: pd.DataFrame, options: TrialsConfig) -> pd.DataFrame:
    """Trials over the speakers of ``manifest`` (its rows of one split), in the order of their ids.

    Ids are sorted bytewise before anything is drawn, so the list depends on the manifest's content and the seed alone. Of
    each target a trial has reference utterances until `reference_s` is reached (a system hears exactly so much of them), and one
    utterance that is held out.
    Raises `BowerbirdError` where there are fewer than three speakers, or no trial fits the options.
    """
    utterances = UtteranceTable(manifest)
    speakers = utterances.speakers
    if len(speakers) < 3:
        raise BowerbirdError(
            f"trials.split = {options.split!r}: {len(speakers)} speakers there; a trial needs a source, a target and a third "
            "speaker for the lower anchor. Choose another split or raise corpus.test_speakers"
        )
    trials = []
    for speaker in speakers:
        own = utterances.of_speaker[speaker]
        generator = trial_generator(options.seed, speaker)
        with_text = [utt_id for utt_id in own if utterances.rows[utt_id]["text"]] or own
        order = generator.permutation(len(with_text))[: options.sources_per_speaker]
        for source in sorted((with_text[place] for place in order), key=str.encode):
            targets = _possible_targets(utterances, source, options)
            chosen = [targets[place] for place in generator.permutation(len(targets))[: options.targets_per_source]]
            for target in sorted(chosen, key=str.encode):
                trials += _trials_of(utterances, source, target, options)
    if not trials:
        raise BowerbirdError(
            "trials: none fit; look at trials.cross_gender, cross_language and pools, and at the speakers' genders, "
            "languages and sessions in the manifest"
        )
    return trial_table(trials, utterances)


def _possible_targets(utterances: UtteranceTable, source: str, options: TrialsConfig) -> list[str]:
    """Speakers that a source may be converted to: of the wanted gender and language, with two utterances of other words.

    One of the two is a reference, the other is held out; neither may have the words of the source.
    """
    row = utterances.rows[source]
    fitting = []
    for speaker in utterances.others_than(row["speaker"]):
        own = [utterances.rows[utt_id] for utt_id in utterances.of_speaker[speaker]]
        others = [utterance for utterance in own if not have_same_words(utterance, row)]
        if len(others) < 2:
            continue
        if options.pools == "session" and len({utterance["session"] for utterance in others} - {""}) < 2:
            continue
        is_known = options.cross_gender == "any" or "" not in (own[0]["gender"], row["gender"])
        fits_gender = is_known and _fits(own[0]["gender"], row["gender"], options.cross_gender)
        if fits_gender and _fits(own[0]["language"], row["language"], options.cross_language):
            fitting.append(speaker)
    return fitting


def _fits(target: str, source: str, wanted: str) -> bool:
    """Whether a target's gender or language is what is wanted relative to the source: any, same, or another one."""
    return wanted == "any" or (target == source) == (wanted == "same")


def _trials_of(utterances: UtteranceTable, source: str, target: str, options: TrialsConfig) -> list[Trial]:
    """A trial for each condition; what is drawn depends on the seed, the source and the target alone.

    All conditions have the held-out utterance, the third speaker and the order of references in common: 3 s are the
    beginning of 10 s.
    """
    pair = f"{source}--{target}"
    generator = trial_generator(options.seed, pair)
    row = utterances.rows[source]
    order = utterances.shuffled(target, generator)
    heldout, *free = [utt_id for utt_id in order if not have_same_words(utterances.rows[utt_id], row)]
    if options.pools == "session":
        session = utterances.rows[heldout]["session"]
        free = [utt_id for utt_id in free if utterances.rows[utt_id]["session"] != session]
    stranger = utterances.draw_from(utterances.others_than(row["speaker"], target), generator)
    return [
        Trial(
            f"{pair}--{wanted_s:g}s" if options.conditions else pair,
            source,
            utterances.take_references(free, wanted_s),
            heldout,
            stranger,
            f"{wanted_s:g}s",
            wanted_s,
        )
        for wanted_s in options.conditions or [options.reference_s]
    ]
