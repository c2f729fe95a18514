# READS   what the stage names in `trains_on` (src/bowerbird/experiments.py): features, audio, pairs, units, models
# WRITES  training/<experiment>/<stage>/model.safetensors  config.json  metrics.jsonl
# Checkpoints are not declared: they outlive a failed job, and the next one goes on from them.


def stage_inputs(wildcards):
    experiment = STUDY.experiments[wildcards.experiment]
    files = artifact_inputs(wildcards.experiment, experiment.trains_on[wildcards.stage])
    start = getattr(getattr(experiment, wildcards.stage), "start_from", "")
    if start:
        files["start"] = local_file(start, "model.safetensors")
    return files


rule train_stage:
    input:
        unpack(stage_inputs),
        manifest=str(PATHS.manifest),
    output:
        model=f"{ROOT}/training/{{experiment}}/{{stage}}/model.safetensors",
        config=f"{ROOT}/training/{{experiment}}/{{stage}}/config.json",
        metrics=f"{ROOT}/training/{{experiment}}/{{stage}}/metrics.jsonl",
    log:
        f"{ROOT}/logs/training/{{experiment}}-{{stage}}.log",
    benchmark:
        f"{ROOT}/benchmarks/training/{{experiment}}-{{stage}}.tsv"
    threads: STUDY.runtime.threads
    resources:
        gpu_slots=GPU_SLOTS,
    params:
        experiment=lambda w: stage_params(STUDY.experiments[w.experiment], w.stage),
        files=artifact_flags,
        version=stage_version("training"),
    shell:
        "{LAUNCH} train-stage --stage {wildcards.stage} --experiment {params.experiment:q} --manifest {input.manifest}"
        " {params.files} --output {output.model} {TRAINING} {RUNTIME} 2> >(tee {log} >&2)"
