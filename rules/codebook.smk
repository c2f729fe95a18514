# READS   corpus/manifest.parquet, features/<name>/shard-*.npy
# WRITES  codebook/<name>/centroids.safetensors  sample.parquet  units/shard-*.npy  summary.parquet  residual.parquet


rule fit_codebook:
    input:
        manifest=PATHS.manifest,
        features=lambda w: GRAPH.fit_codebook(w.codebook).inputs["features"],
    output:
        codebook=PATHS.codebook("{codebook}"),
        sample=PATHS.codebook_table("{codebook}", "sample"),
    log:
        PATHS.log("codebook", "{codebook}-fit"),
    benchmark:
        PATHS.benchmark("codebook", "{codebook}-fit")
    threads: STUDY.runtime.threads
    resources:
        gpu_slots=GPU_SLOTS,
    params:
        options=lambda w: GRAPH.fit_codebook(w.codebook).options,
        version=stage_version("codebook"),
    message:
        "codebook {wildcards.codebook}: K-means over a sample of training frames"
    shell:
        "bowerbird fit-codebook"
        " --manifest {input.manifest}"
        " --features {input.features}"
        " --output {output.codebook}"
        " {params.options}"
        " {RUNTIME}"
        " 2> >(tee {log} >&2)"


rule assign_units:
    input:
        codebook=PATHS.codebook("{codebook}"),
        features=lambda w: GRAPH.assign_units(w.codebook, w.shard).inputs["features"],
    output:
        units=PATHS.units("{codebook}", "{shard}"),
        index=PATHS.index(PATHS.units("{codebook}", "{shard}")),
    log:
        PATHS.log("codebook", "{codebook}-assign-{shard}"),
    benchmark:
        PATHS.benchmark("codebook", "{codebook}-assign-{shard}")
    threads: STUDY.runtime.threads
    params:
        options=lambda w: GRAPH.assign_units(w.codebook, w.shard).options,
        version=stage_version("codebook"),
    message:
        "codebook {wildcards.codebook}: the code of every frame of shard {wildcards.shard}"
    shell:
        "bowerbird assign-units"
        " --codebook {input.codebook}"
        " --features {input.features}"
        " --output {output.units}"
        " {params.options}"
        " {RUNTIME}"
        " 2> >(tee {log} >&2)"


rule summarize_units:
    input:
        manifest=PATHS.manifest,
        codebook=PATHS.codebook("{codebook}"),
        units=lambda w: GRAPH.summarize_units(w.codebook).inputs["units"],
    output:
        summary=PATHS.codebook_table("{codebook}", "summary"),
    log:
        PATHS.log("codebook", "{codebook}-summary"),
    benchmark:
        PATHS.benchmark("codebook", "{codebook}-summary")
    params:
        version=stage_version("codebook"),
    message:
        "codebook {wildcards.codebook}: how often each code is used, by which speakers"
    shell:
        "bowerbird summarize-units"
        " --manifest {input.manifest}"
        " --codebook {input.codebook}"
        " --units {input.units}"
        " --output {output.summary}"
        " 2> >(tee {log} >&2)"


rule probe_residual:
    input:
        manifest=PATHS.manifest,
        codebook=PATHS.codebook("{codebook}"),
        features=lambda w: GRAPH.probe_residual(w.codebook).inputs["features"],
        audio=PATHS.all_shards("audio"),
        model=lambda w: GRAPH.probe_residual(w.codebook).inputs["model"],
    output:
        probes=PATHS.codebook_table("{codebook}", "residual"),
        places=PATHS.codebook_table("{codebook}", "pca"),
    log:
        PATHS.log("codebook", "{codebook}-residual"),
    benchmark:
        PATHS.benchmark("codebook", "{codebook}-residual")
    threads: STUDY.runtime.threads
    params:
        options=lambda w: GRAPH.probe_residual(w.codebook).options,
        version=stage_version("codebook"),
    message:
        "codebook {wildcards.codebook}: linear probes of the residual for speaker and phone"
    shell:
        "bowerbird probe-residual"
        " --manifest {input.manifest}"
        " --codebook {input.codebook}"
        " --features {input.features}"
        " --audio {input.audio}"
        " --output {output.probes}"
        " {params.options}"
        " {RUNTIME}"
        " 2> >(tee {log} >&2)"
