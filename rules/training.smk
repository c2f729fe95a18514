# READS   what the experiment's stage reads (config/systems/): features, audio, pairs, codebook, models of earlier stages
# WRITES  training/<experiment>/<stage>/model.safetensors  config.json  metrics.jsonl
# Checkpoints are not declared: they outlive a failed job, and the next one resumes from them.


rule train_stage:
    input:
        unpack(lambda w: GRAPH.train_stage(w.experiment, w.stage).input_files),
    output:
        model=PATHS.model("{experiment}", "{stage}") / "model.safetensors",
        config=PATHS.model("{experiment}", "{stage}") / "config.json",
        metrics=PATHS.model("{experiment}", "{stage}") / "metrics.jsonl",
    log:
        PATHS.log("training", "{experiment}-{stage}"),
    benchmark:
        PATHS.benchmark("training", "{experiment}-{stage}")
    threads: STUDY.runtime.threads
    resources:
        gpu_slots=GPU_SLOTS,
    params:
        options=lambda w: GRAPH.train_stage(w.experiment, w.stage).options,
        inputs=lambda w: GRAPH.train_stage(w.experiment, w.stage).input_options,
        version=stage_version("training"),
    message:
        "training {wildcards.experiment}: stage {wildcards.stage}"
    shell:
        "{LAUNCH} train-stage"
        " --stage {wildcards.stage}"
        " {params.inputs}"
        " --output {output.model}"
        " {params.options}"
        " {TRAINING}"
        " {RUNTIME}"
        " 2> >(tee {log} >&2)"
