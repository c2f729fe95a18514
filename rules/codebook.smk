# READS   corpus/manifest.parquet, features/<name>/shard-*.npy
# WRITES  codebook/<name>/centroids.safetensors  sample.parquet  units/shard-*.npy  summary.parquet  residual.parquet


rule fit_codebook:
    input:
        manifest=str(PATHS.manifest),
        features=lambda w: PATHS.all_shards(
            "features", STUDY.codebook[w.codebook].features
        ),
    output:
        codebook=f"{ROOT}/codebook/{{codebook}}/centroids.safetensors",
        sample=f"{ROOT}/codebook/{{codebook}}/sample.parquet",
    log:
        f"{ROOT}/logs/codebook/{{codebook}}-fit.log",
    benchmark:
        f"{ROOT}/benchmarks/codebook/{{codebook}}-fit.tsv"
    threads: STUDY.runtime.threads
    resources:
        gpu_slots=GPU_SLOTS,
    params:
        options=lambda w: flags(
            STUDY.codebook[w.codebook], exclude=["features", "assignment"]
        ),
        version=stage_version("codebook"),
    shell:
        "bowerbird fit-codebook --manifest {input.manifest} --features {input.features} --output {output.codebook}"
        " {params.options} {RUNTIME} 2> >(tee {log} >&2)"


rule assign_units:
    input:
        codebook=rules.fit_codebook.output.codebook,
        features=lambda w: PATHS.features(STUDY.codebook[w.codebook].features, w.shard),
    output:
        units=f"{ROOT}/codebook/{{codebook}}/units/shard-{{shard}}.npy",
        index=f"{ROOT}/codebook/{{codebook}}/units/shard-{{shard}}.parquet",
    log:
        f"{ROOT}/logs/codebook/{{codebook}}-assign-{{shard}}.log",
    threads: STUDY.runtime.threads
    params:
        assignment=lambda w: STUDY.codebook[w.codebook].assignment,
        version=stage_version("codebook"),
    shell:
        "bowerbird assign-units --codebook {input.codebook} --features {input.features} --output {output.units}"
        " --assignment {params.assignment} {RUNTIME} 2> >(tee {log} >&2)"


rule summarize_units:
    input:
        manifest=str(PATHS.manifest),
        codebook=rules.fit_codebook.output.codebook,
        units=lambda w: PATHS.all_shards("units", w.codebook),
    output:
        f"{ROOT}/codebook/{{codebook}}/summary.parquet",
    log:
        f"{ROOT}/logs/codebook/{{codebook}}-summary.log",
    params:
        version=stage_version("codebook"),
    shell:
        "bowerbird summarize-units --manifest {input.manifest} --codebook {input.codebook} --units {input.units}"
        " --output {output} 2> >(tee {log} >&2)"


rule probe_residual:
    input:
        manifest=str(PATHS.manifest),
        codebook=rules.fit_codebook.output.codebook,
        features=lambda w: PATHS.all_shards(
            "features", STUDY.codebook[w.codebook].features
        ),
        audio=PATHS.all_shards("audio"),
        model=lambda w: bottleneck_model(w.codebook),
    output:
        probes=f"{ROOT}/codebook/{{codebook}}/residual.parquet",
        places=f"{ROOT}/codebook/{{codebook}}/pca.parquet",
    log:
        f"{ROOT}/logs/codebook/{{codebook}}-residual.log",
    threads: STUDY.runtime.threads
    params:
        assignment=lambda w: STUDY.codebook[w.codebook].assignment,
        model=lambda w, input: (
            f"--model {Path(input.model[0]).parent}" if input.model else ""
        ),
        version=stage_version("codebook"),
    shell:
        "bowerbird probe-residual --manifest {input.manifest} --codebook {input.codebook} --features {input.features}"
        " --audio {input.audio} --output {output.probes} --assignment {params.assignment} {params.model} {RUNTIME}"
        " 2> >(tee {log} >&2)"
