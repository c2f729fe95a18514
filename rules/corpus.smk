# READS   the corpus on disk
# WRITES  corpus/manifest.parquet  corpus/rejected.parquet  corpus/audio/shard-*.npy  corpus/trials.parquet


rule list_corpus:
    input:
        listing=GRAPH.list_corpus().inputs["listing"],
    output:
        manifest=PATHS.manifest,
        rejected=PATHS.rejected,
    log:
        PATHS.log("corpus", "list_corpus"),
    benchmark:
        PATHS.benchmark("corpus", "list_corpus")
    threads: STUDY.runtime.threads
    params:
        options=GRAPH.list_corpus().options,
        version=stage_version("corpus"),
    message:
        "corpus: the manifest of {STUDY.corpus.path}"
    shell:
        "bowerbird list-corpus"
        " --manifest {output.manifest}"
        " --rejected {output.rejected}"
        " {params.options}"
        " {RUNTIME}"
        " 2> >(tee {log} >&2)"


rule store_audio:
    input:
        manifest=PATHS.manifest,
    output:
        audio=PATHS.audio("{shard}"),
        index=PATHS.index(PATHS.audio("{shard}")),
    log:
        PATHS.log("corpus", "store_audio-{shard}"),
    benchmark:
        PATHS.benchmark("corpus", "store_audio-{shard}")
    threads: STUDY.runtime.threads
    params:
        options=lambda w: GRAPH.store_audio(w.shard).options,
        version=stage_version("corpus"),
    message:
        "corpus: audio of shard {wildcards.shard} at 16 kHz"
    shell:
        "bowerbird store-audio"
        " --manifest {input.manifest}"
        " --shard {wildcards.shard}"
        " --output {output.audio}"
        " {params.options}"
        " {RUNTIME}"
        " 2> >(tee {log} >&2)"


rule list_trials:
    input:
        manifest=PATHS.manifest,
        list=GRAPH.list_trials().inputs.get("list", ()),
    output:
        trials=PATHS.trials,
    log:
        PATHS.log("corpus", "list_trials"),
    benchmark:
        PATHS.benchmark("corpus", "list_trials")
    params:
        options=GRAPH.list_trials().options,
        version=stage_version("corpus"),
    message:
        "corpus: which source is converted to which target"
    shell:
        "bowerbird list-trials"
        " --manifest {input.manifest}"
        " --output {output.trials}"
        " {params.options}"
        " 2> >(tee {log} >&2)"
