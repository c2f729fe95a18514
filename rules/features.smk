# READS   corpus/audio/shard-*.npy, an encoder
# WRITES  features/<name>/shard-*.npy   float16 (frames, dim), 50 frames per second


rule extract_features:
    input:
        audio=PATHS.audio("{shard}"),
        index=PATHS.index(PATHS.audio("{shard}")),
        encoder=lambda w: GRAPH.extract_features(w.features, w.shard).inputs["encoder"],
    output:
        features=PATHS.features("{features}", "{shard}"),
        index=PATHS.index(PATHS.features("{features}", "{shard}")),
    log:
        PATHS.log("features", "{features}-{shard}"),
    benchmark:
        PATHS.benchmark("features", "{features}-{shard}")
    threads: STUDY.runtime.threads
    resources:
        gpu_slots=GPU_SLOTS,
    params:
        options=lambda w: GRAPH.extract_features(w.features, w.shard).options,
        version=stage_version("features"),
    message:
        "features {wildcards.features}: shard {wildcards.shard}"
    shell:
        "bowerbird extract-features"
        " --audio {input.audio}"
        " --output {output.features}"
        " {params.options}"
        " {RUNTIME}"
        " 2> >(tee {log} >&2)"
