# READS   conversion/<experiment>/trials.parquet and its audio, corpus/audio for the sources and references
# WRITES  evaluation/<experiment>/<family>.parquet   one row a trial and metric;   evaluation/transcripts.parquet and evaluation/{summary,differences,cells}.parquet

# The options each family of metrics depends on: another ASR re-scores intelligibility and nothing else.
FAMILIES = {
    "intelligibility": ["asr", "asr_revision", "normalizer", "closed_set"],
    "speaker": ["verifier", "second_verifier"],
    **({"prosody": ["prosody"]} if STUDY.evaluation.prosody else {}),
    **(
        {"quality": ["quality", "quality_trials", "opinions"]}
        if STUDY.evaluation.quality
        else {}
    ),
}


rule transcribe_sources:
    input:
        trials=str(PATHS.trials),
        audio=PATHS.all_shards("audio"),
    output:
        f"{ROOT}/evaluation/transcripts.parquet",
    log:
        f"{ROOT}/logs/evaluation/transcripts.log",
    benchmark:
        f"{ROOT}/benchmarks/evaluation/transcripts.tsv"
    threads: STUDY.runtime.threads
    params:
        options=flags(STUDY.evaluation, only=["asr", "asr_revision"]),
        version=stage_version("evaluation"),
    shell:
        "bowerbird transcribe-sources --trials {input.trials} --audio {input.audio} --output {output}"
        " {params.options} {RUNTIME} 2> >(tee {log} >&2)"


rule score_trials:
    input:
        unpack(
            lambda w: (
                {"transcripts": rules.transcribe_sources.output[0]}
                if w.family == "intelligibility"
                else {}
            )
        ),
        conversion=rules.convert_trials.output[0],
        trials=str(PATHS.trials),
        manifest=str(PATHS.manifest),
        audio=PATHS.all_shards("audio"),
    output:
        f"{ROOT}/evaluation/{{experiment}}/{{family}}.parquet",
    log:
        f"{ROOT}/logs/evaluation/{{experiment}}-{{family}}.log",
    benchmark:
        f"{ROOT}/benchmarks/evaluation/{{experiment}}-{{family}}.tsv"
    threads: STUDY.runtime.threads
    params:
        options=lambda w: flags(STUDY.evaluation, only=FAMILIES[w.family]),
        transcripts=lambda w, input: (
            f"--transcripts {input.transcripts}"
            if w.family == "intelligibility"
            else ""
        ),
        version=stage_version("evaluation"),
    shell:
        "bowerbird score-trials --conversion {input.conversion} --trials {input.trials} --manifest {input.manifest}"
        " --audio {input.audio} --output {output} --family {wildcards.family} {params.transcripts}"
        " {params.options} {RUNTIME} 2> >(tee {log} >&2)"


rule summarize_scores:
    input:
        scores=[
            PATHS.scores(name, family)
            for name in STUDY.experiments
            for family in FAMILIES
        ],
    output:
        summary=str(PATHS.summary),
        differences=str(PATHS.summary.with_name("differences.parquet")),
        cells=str(PATHS.summary.with_name("cells.parquet")),
    log:
        f"{ROOT}/logs/evaluation/summary.log",
    params:
        options=flags(STUDY.evaluation, only=["bootstrap", "confidence", "seed"]),
        version=stage_version("evaluation"),
    shell:
        "bowerbird summarize-scores --scores {input.scores} --output {output.summary} {params.options} 2> >(tee {log} >&2)"
