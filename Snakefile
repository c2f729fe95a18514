# bowerbird: from a folder of speech to converted voices, measured.
#   snakemake --profile workflow/profiles/laptop                 the study of config.yaml
#   snakemake --profile workflow/profiles/laptop -n              what would be made, and why
#   snakemake ... --configfile workflow/presets/tiny.yaml        another study: overlays only override
from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/corpus.smk"
include: "rules/features.smk"
include: "rules/codebook.smk"
include: "rules/pairs.smk"
include: "rules/training.smk"
include: "rules/conversion.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"


localrules:
    all,
    features,
    codebook,
    pairs,
    training,
    conversion,
    evaluation,


rule all:
    default_target: True
    input:
        PATHS.report,


# Targets by noun: `snakemake pairs` makes everything up to the pairs.
rule features:
    input:
        [path for name in STUDY.features for path in PATHS.all_shards("features", name)],


rule codebook:
    input:
        [PATHS.codebook_table(name, "summary") for name in STUDY.codebook],


rule pairs:
    input:
        [PATHS.pairs_quality(name) for name in STUDY.pairs],


rule training:
    input:
        [
            PATHS.model(name, stage) / "model.safetensors"
            for name, stage in GRAPH.trained_stages()
        ],


rule conversion:
    input:
        [PATHS.conversion(name) for name in STUDY.experiments],


rule evaluation:
    input:
        PATHS.evaluation_table("summary"),
