# READS   corpus/manifest.parquet, features/<name>/shard-*.npy (donors may lie in any shard)
# WRITES  pairs/<name>/shard-*.npy   int32 (frames, k) neighbour rows; shard-*.distances.npy; quality.parquet


def units_beside(pairs):
    """Units of the first codebook on the same features, to measure content agreement with; [] if there is none."""
    features = STUDY.pairs[pairs].features
    names = [
        name for name, section in STUDY.codebook.items() if section.features == features
    ]
    return PATHS.all_shards("units", names[0]) if names else []


rule search_pairs:
    input:
        manifest=str(PATHS.manifest),
        features=lambda w: PATHS.all_shards("features", STUDY.pairs[w.pairs].features),
    output:
        pairs=f"{ROOT}/pairs/{{pairs}}/shard-{{shard}}.npy",
        distances=f"{ROOT}/pairs/{{pairs}}/shard-{{shard}}.distances.npy",
        index=f"{ROOT}/pairs/{{pairs}}/shard-{{shard}}.parquet",
    log:
        f"{ROOT}/logs/pairs/{{pairs}}-{{shard}}.log",
    benchmark:
        f"{ROOT}/benchmarks/pairs/{{pairs}}-{{shard}}.tsv"
    threads: STUDY.runtime.threads
    resources:
        gpu_slots=GPU_SLOTS,
    params:
        options=lambda w: flags(STUDY.pairs[w.pairs], exclude=["features"]),
        version=stage_version("pairs"),
    shell:
        "bowerbird search-pairs --manifest {input.manifest} --features {input.features} --output {output.pairs}"
        " --shard {wildcards.shard} {params.options} {RUNTIME} 2> >(tee {log} >&2)"


rule summarize_pairs:
    input:
        manifest=str(PATHS.manifest),
        pairs=lambda w: PATHS.all_shards("pairs", w.pairs),
        features=lambda w: PATHS.all_shards("features", STUDY.pairs[w.pairs].features),
        units=lambda w: units_beside(w.pairs),
        audio=PATHS.all_shards("audio"),
    output:
        f"{ROOT}/pairs/{{pairs}}/quality.parquet",
    log:
        f"{ROOT}/logs/pairs/{{pairs}}-quality.log",
    params:
        phonetic=PHONETIC,
        version=stage_version("pairs"),
    shell:
        "bowerbird summarize-pairs --manifest {input.manifest} --pairs {input.pairs} --features {input.features}"
        " --units {input.units} --audio {input.audio} --phonetic {params.phonetic} --output {output} 2> >(tee {log} >&2)"
