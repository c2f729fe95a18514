# READS   corpus/audio/shard-*.npy, an encoder
# WRITES  features/<name>/shard-*.npy   float16 (frames, dim), 50 frames a second


rule extract_features:
    input:
        audio=rules.store_audio.output.audio,
        index=rules.store_audio.output.index,
        encoder=lambda w: encoder_inputs(STUDY.features[w.features]),
    output:
        features=f"{ROOT}/features/{{features}}/shard-{{shard}}.npy",
        index=f"{ROOT}/features/{{features}}/shard-{{shard}}.parquet",
    log:
        f"{ROOT}/logs/features/{{features}}-{{shard}}.log",
    benchmark:
        f"{ROOT}/benchmarks/features/{{features}}-{{shard}}.tsv"
    threads: STUDY.runtime.threads
    resources:
        gpu_slots=GPU_SLOTS,
    params:
        options=lambda w: flags(PATHS.located(STUDY, STUDY.features[w.features])),
        version=stage_version("features"),
    shell:
        "bowerbird extract-features --audio {input.audio} --output {output.features} {params.options} {RUNTIME}"
        " 2> >(tee {log} >&2)"
