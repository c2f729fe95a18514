# READS   everything below results/<run>/
# WRITES  report/index.html and the files it shows; opens offline


rule write_report:
    input:
        summary=str(PATHS.summary),
        rejected=str(PATHS.rejected),
        conversions=[PATHS.conversion(name) for name in STUDY.experiments],
        codebooks=[
            PATHS.codebook(name).with_name("summary.parquet")
            for name in STUDY.codebook
        ],
        residuals=[
            PATHS.codebook(name).with_name("residual.parquet")
            for name in probed_codebooks()
        ],
        pairs=[
            PATHS.pairs(name, 0).with_name("quality.parquet") for name in STUDY.pairs
        ],
        models=[
            PATHS.model(name, stage) / "metrics.jsonl"
            for name, stage in trained_stages()
        ],
    output:
        str(PATHS.report),
    log:
        f"{ROOT}/logs/report/write_report.log",
    params:
        options=flags(STUDY.report),
        version=stage_version("report"),
    shell:
        "bowerbird write-report --root {ROOT} --config {PATHS.config} --output {output} {params.options}"
        " 2> >(tee {log} >&2)"
