# READS   corpus/trials.parquet, corpus/audio, and what the experiment converts with (config/systems/)
# WRITES  conversion/<experiment>/trials.parquet and one FLAC per trial beside it


rule convert_trials:
    input:
        unpack(lambda w: GRAPH.convert_trials(w.experiment).input_files),
    output:
        table=PATHS.conversion("{experiment}"),
    log:
        PATHS.log("conversion", "{experiment}"),
    benchmark:
        PATHS.benchmark("conversion", "{experiment}")
    threads: STUDY.runtime.threads
    resources:
        gpu_slots=GPU_SLOTS,
    params:
        options=lambda w: GRAPH.convert_trials(w.experiment).options,
        inputs=lambda w: GRAPH.convert_trials(w.experiment).input_options,
        version=stage_version("conversion"),
    message:
        "conversion {wildcards.experiment}: every trial"
    shell:
        "bowerbird convert-trials"
        " {params.inputs}"
        " --output {output.table}"
        " {params.options}"
        " {RUNTIME}"
        " 2> >(tee {log} >&2)"
