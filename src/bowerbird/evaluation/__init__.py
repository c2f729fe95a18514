"""Evaluation: every number about every trial, with its definition, and the summary that may compare them.

`score_trials` computes one family of metrics for one experiment; `summarise_scores` puts experiments side by side, and
refuses where they were judged by different definitions, models or normalisers, or on different trials.
"""

from bowerbird.evaluation.comparison import DIFFERENCES, compare_runs
from bowerbird.evaluation.scoring import SCORES, score_trials
from bowerbird.evaluation.summary import CELLS, SUMMARY, summarise_scores
from bowerbird.evaluation.version import VERSION
from bowerbird.evaluation.words import transcribe_sources

__all__ = [
    "CELLS",
    "DIFFERENCES",
    "SCORES",
    "SUMMARY",
    "VERSION",
    "compare_runs",
    "score_trials",
    "summarise_scores",
    "transcribe_sources",
]
