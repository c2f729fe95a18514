# READS   corpus/trials.parquet, corpus/audio, and what the system names in `converts_with`
# WRITES  conversion/<experiment>/trials.parquet and one FLAC a trial beside it


rule convert_trials:
    input:
        unpack(
            lambda w: artifact_inputs(
                w.experiment, ("audio", *STUDY.experiments[w.experiment].converts_with)
            )
        ),
        unpack(
            lambda w: {
                s: model_file(w.experiment, s)
                for s in STUDY.experiments[w.experiment].stages
            }
        ),
        manifest=str(PATHS.manifest),
        trials=str(PATHS.trials),
    output:
        f"{ROOT}/conversion/{{experiment}}/trials.parquet",
    log:
        f"{ROOT}/logs/conversion/{{experiment}}.log",
    benchmark:
        f"{ROOT}/benchmarks/conversion/{{experiment}}.tsv"
    threads: STUDY.runtime.threads
    resources:
        gpu_slots=GPU_SLOTS,
    params:
        experiment=lambda w: conversion_params(STUDY.experiments[w.experiment]),
        files=artifact_flags,
        options=flags(STUDY.conversion),
        version=stage_version("conversion"),
    shell:
        "bowerbird convert-trials --manifest {input.manifest} --trials {input.trials} {params.files} --output {output}"
        " --experiment {params.experiment:q} {params.options} {RUNTIME} 2> >(tee {log} >&2)"
