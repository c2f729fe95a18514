# READS   corpus/manifest.parquet, features/<name>/shard-*.npy (donors may lie in any shard)
# WRITES  pairs/<name>/shard-*.npy   int32 (frames, k) neighbor rows; shard-*.distances.npy; quality.parquet


rule search_pairs:
    input:
        manifest=PATHS.manifest,
        features=lambda w: GRAPH.search_pairs(w.pairs, w.shard).inputs["features"],
        search_keys=lambda w: GRAPH.search_pairs(w.pairs, w.shard).inputs["search_keys"],
    output:
        pairs=PATHS.pairs("{pairs}", "{shard}"),
        distances=PATHS.distances("{pairs}", "{shard}"),
        index=PATHS.index(PATHS.pairs("{pairs}", "{shard}")),
    log:
        PATHS.log("pairs", "{pairs}-{shard}"),
    benchmark:
        PATHS.benchmark("pairs", "{pairs}-{shard}")
    threads: STUDY.runtime.threads
    resources:
        gpu_slots=GPU_SLOTS,
    params:
        options=lambda w: GRAPH.search_pairs(w.pairs, w.shard).options,
        version=stage_version("pairs"),
    message:
        "pairs {wildcards.pairs}: nearest donor frames for shard {wildcards.shard}"
    shell:
        "bowerbird search-pairs"
        " --manifest {input.manifest}"
        " --features {input.features}"
        " --search-keys {input.search_keys}"
        " --shard {wildcards.shard}"
        " --output {output.pairs}"
        " {params.options}"
        " {RUNTIME}"
        " 2> >(tee {log} >&2)"


rule summarize_pairs:
    input:
        manifest=PATHS.manifest,
        pairs=lambda w: GRAPH.summarize_pairs(w.pairs).inputs["pairs"],
        features=lambda w: GRAPH.summarize_pairs(w.pairs).inputs["features"],
        units=lambda w: GRAPH.summarize_pairs(w.pairs).inputs["units"],
        audio=PATHS.all_shards("audio"),
    output:
        quality=PATHS.pairs_quality("{pairs}"),
    log:
        PATHS.log("pairs", "{pairs}-quality"),
    benchmark:
        PATHS.benchmark("pairs", "{pairs}-quality")
    params:
        options=lambda w: GRAPH.summarize_pairs(w.pairs).options,
        version=stage_version("pairs"),
    message:
        "pairs {wildcards.pairs}: quality of retrieval beside its chance level"
    shell:
        "bowerbird summarize-pairs"
        " --manifest {input.manifest}"
        " --pairs {input.pairs}"
        " --features {input.features}"
        " --units {input.units}"
        " --audio {input.audio}"
        " --output {output.quality}"
        " {params.options}"
        " 2> >(tee {log} >&2)"
