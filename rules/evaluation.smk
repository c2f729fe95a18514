# READS   conversion/<experiment>/trials.parquet and its audio, corpus/audio for the sources and references
# WRITES  evaluation/<experiment>/<family>.parquet, one row per trial and metric; evaluation/transcripts.parquet and
#         evaluation/{summary,differences,cells}.parquet


rule transcribe_sources:
    input:
        trials=PATHS.trials,
        audio=PATHS.all_shards("audio"),
    output:
        transcripts=PATHS.evaluation_table("transcripts"),
    log:
        PATHS.log("evaluation", "transcripts"),
    benchmark:
        PATHS.benchmark("evaluation", "transcripts")
    threads: STUDY.runtime.threads
    params:
        options=GRAPH.transcribe_sources().options,
        version=stage_version("evaluation"),
    message:
        "evaluation: transcripts of the sources"
    shell:
        "bowerbird transcribe-sources"
        " --trials {input.trials}"
        " --audio {input.audio}"
        " --output {output.transcripts}"
        " {params.options}"
        " {RUNTIME}"
        " 2> >(tee {log} >&2)"


rule score_trials:
    input:
        conversion=PATHS.conversion("{experiment}"),
        trials=PATHS.trials,
        manifest=PATHS.manifest,
        audio=PATHS.all_shards("audio"),
        transcripts=lambda w: GRAPH.score_trials(w.experiment, w.family).inputs[
            "transcripts"
        ],
    output:
        scores=PATHS.scores("{experiment}", "{family}"),
    log:
        PATHS.log("evaluation", "{experiment}-{family}"),
    benchmark:
        PATHS.benchmark("evaluation", "{experiment}-{family}")
    threads: STUDY.runtime.threads
    params:
        options=lambda w: GRAPH.score_trials(w.experiment, w.family).options,
        version=stage_version("evaluation"),
    message:
        "evaluation {wildcards.experiment}: {wildcards.family}"
    shell:
        "bowerbird score-trials"
        " --family {wildcards.family}"
        " --conversion {input.conversion}"
        " --trials {input.trials}"
        " --manifest {input.manifest}"
        " --audio {input.audio}"
        " --output {output.scores}"
        " {params.options}"
        " {RUNTIME}"
        " 2> >(tee {log} >&2)"


rule summarize_scores:
    input:
        scores=GRAPH.summarize_scores().inputs["scores"],
    output:
        summary=PATHS.evaluation_table("summary"),
        differences=PATHS.evaluation_table("differences"),
        cells=PATHS.evaluation_table("cells"),
    log:
        PATHS.log("evaluation", "summary"),
    benchmark:
        PATHS.benchmark("evaluation", "summary")
    params:
        options=GRAPH.summarize_scores().options,
        version=stage_version("evaluation"),
    message:
        "evaluation: means with confidence intervals over all experiments"
    shell:
        "bowerbird summarize-scores"
        " --scores {input.scores}"
        " --output {output.summary}"
        " {params.options}"
        " 2> >(tee {log} >&2)"
