"""The commands by group, and what each one runs; only the module that a command needs is imported.

Stage commands are called by the workflow and can be called by hand; a hyphen joins verb and noun, and function, rule and
command have one name. A space separates a group from its member: ``bowerbird config check``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """A command: ``target`` is "module:function", ``positional`` the parameters that need no option's name."""

    target: str
    help: str
    positional: tuple[str, ...] = ()

    def load(self) -> Callable[..., Any]:
        """Import the function behind the command."""
        module, _, function = self.target.partition(":")
        return getattr(importlib.import_module(module), function)


STAGE_COMMANDS = {
    "list-corpus": Command(
        "bowerbird.stages.corpus.manifest:list_corpus",
        "read a folder of speech into a manifest; set bad files aside by name",
    ),
    "store-audio": Command(
        "bowerbird.stages.corpus.store:store_audio", "decode one shard of the manifest to 16 kHz samples"
    ),
    "list-trials": Command("bowerbird.stages.corpus.trials:list_trials", "choose what is converted to which voice"),
    "extract-features": Command(
        "bowerbird.stages.features.extract:extract_features", "run an encoder over one audio shard"
    ),
    "fit-codebook": Command("bowerbird.stages.codebook.fit:fit_codebook", "K-means over a sample of training frames"),
    "assign-units": Command("bowerbird.stages.codebook.assign:assign_units", "the code of every frame of one shard"),
    "summarize-units": Command(
        "bowerbird.stages.codebook.usage:summarize_units", "how often each code is used, by which speakers"
    ),
    "probe-residual": Command(
        "bowerbird.stages.codebook.residual:probe_residual",
        "linear probes of the quantization residual for speaker and phone",
    ),
    "search-pairs": Command(
        "bowerbird.stages.pairs.search:search_pairs", "nearest frames of donor speakers for one shard"
    ),
    "summarize-pairs": Command(
        "bowerbird.stages.pairs.quality:summarize_pairs", "quality of retrieval beside its chance level"
    ),
    "train-stage": Command("bowerbird.stages.training.train:train_stage", "train one stage of one experiment"),
    "convert-trials": Command(
        "bowerbird.stages.conversion.trials:convert_trials", "convert every trial with one experiment"
    ),
    "transcribe-sources": Command(
        "bowerbird.stages.evaluation.intelligibility:transcribe_sources", "transcribe the source of each trial"
    ),
    "score-trials": Command(
        "bowerbird.stages.evaluation.score:score_trials", "one family of metrics over converted trials"
    ),
    "summarize-scores": Command(
        "bowerbird.stages.evaluation.summarize:summarize_scores", "means with confidence intervals over all experiments"
    ),
    "write-report": Command("bowerbird.stages.report.page:write_report", "the static report with players"),
}
TOOLS = {
    "convert": Command(
        "bowerbird.stages.conversion.files:convert", "convert one file or a folder to another voice", ("source",)
    ),
    "compare": Command(
        "bowerbird.stages.evaluation.compare:compare_runs",
        "paired differences of two runs, or within one, as a table",
        ("runs",),
    ),
    "show": Command(
        "bowerbird.inspection.show:show_artifact", "how an artifact was made, and its statistics", ("path",)
    ),
    "lineage": Command(
        "bowerbird.inspection.lineage:draw_lineage", "the inputs of an artifact, and theirs, as a tree", ("path",)
    ),
    "audit": Command(
        "bowerbird.inspection.audit:audit_run", "check every artifact of a run against its record", ("stage",)
    ),
    "audit residual": Command(
        "bowerbird.inspection.probes:audit_residual", "what the residuals of a run's codebooks tell, as a table"
    ),
    "audit leakage": Command(
        "bowerbird.inspection.probes:audit_leakage", "how much of the speaker Stepback's content keeps, as a table"
    ),
    "pairs quality": Command(
        "bowerbird.stages.pairs.quality:print_quality", "content agreement of retrieved frames, as a table"
    ),
    "plan-cost": Command(
        "bowerbird.inspection.cost:plan_cost", "what a run cost, and what one over more speech would cost"
    ),
    "write-crate": Command("bowerbird.inspection.ro_crate:write_crate", "describe a run as an RO-Crate, to publish it"),
    "export-trials": Command(
        "bowerbird.stages.corpus.lists:export_trials", "write trials as a list that other tools read"
    ),
    "analyze-listening": Command(
        "bowerbird.stages.evaluation.listening:analyze_listening",
        "mean opinions of saved listening tests, as a table",
        ("answers",),
    ),
}
CONFIG = {
    "config show": Command(
        "bowerbird.cli.config:show_config", "print the resolved configuration, defaults included", ("files",)
    ),
    "config check": Command(
        "bowerbird.cli.config:check_config", "check a configuration and name every mistake", ("files",)
    ),
    "config schema": Command("bowerbird.cli.config:write_schema", "JSON schema of the configuration, for editors"),
}
GROUPS = (
    ("Stages, in the order of the data (the workflow calls them, and so can you)", STAGE_COMMANDS),
    ("Tools: convert, compare, and look into a run", TOOLS),
    ("Configuration", CONFIG),
)
COMMANDS = {**STAGE_COMMANDS, **TOOLS, **CONFIG}


def overview() -> str:
    """The text of ``bowerbird --help``."""
    width = max(map(len, COMMANDS)) + 2
    lines = ["usage: bowerbird COMMAND ...", ""]
    for heading, group in GROUPS:
        lines += [f"{heading}:", *(f"  {name:<{width}}{command.help}" for name, command in group.items()), ""]
    lines.append("`bowerbird COMMAND --help` lists a command's options with units and defaults.")
    return "\n".join(lines)


def split_command(words: list[str]) -> tuple[str, list[str]]:
    """The command that ``words`` begin with ("" if there is none of that name), and the words after it."""
    for count in (2, 1):
        name = " ".join(words[:count])
        if len(words) >= count and name in COMMANDS:
            return name, words[count:]
    return "", words
