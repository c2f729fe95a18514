# READS   the corpus on disk
# WRITES  corpus/manifest.parquet  corpus/rejected.parquet  corpus/audio/shard-*.npy  corpus/trials.parquet


rule list_corpus:
    input:
        corpus_files(),
    output:
        manifest=str(PATHS.manifest),
        rejected=str(PATHS.rejected),
    log:
        f"{ROOT}/logs/corpus/list_corpus.log",
    benchmark:
        f"{ROOT}/benchmarks/corpus/list_corpus.tsv"
    threads: STUDY.runtime.threads
    params:
        options=flags(STUDY.corpus, exclude=["trim_silence"]),
        version=stage_version("corpus"),
    shell:
        "bowerbird list-corpus --manifest {output.manifest} --rejected {output.rejected} {params.options} {RUNTIME}"
        " 2> >(tee {log} >&2)"


rule store_audio:
    input:
        manifest=str(PATHS.manifest),
    output:
        audio=f"{ROOT}/corpus/audio/shard-{{shard}}.npy",
        index=f"{ROOT}/corpus/audio/shard-{{shard}}.parquet",
    log:
        f"{ROOT}/logs/corpus/store_audio-{{shard}}.log",
    benchmark:
        f"{ROOT}/benchmarks/corpus/store_audio-{{shard}}.tsv"
    threads: STUDY.runtime.threads
    params:
        options=flags(STUDY.corpus, only=["trim_silence"]),
        version=stage_version("corpus"),
    shell:
        "bowerbird store-audio --manifest {input.manifest} --output {output.audio} --shard {wildcards.shard}"
        " {params.options} {RUNTIME} 2> >(tee {log} >&2)"


rule list_trials:
    input:
        [STUDY.trials.file] if STUDY.trials.file else [],
        manifest=str(PATHS.manifest),
    output:
        str(PATHS.trials),
    log:
        f"{ROOT}/logs/corpus/list_trials.log",
    params:
        options=flags(STUDY.trials),
        version=stage_version("corpus"),
    shell:
        "bowerbird list-trials --manifest {input.manifest} --output {output} {params.options} 2> >(tee {log} >&2)"
