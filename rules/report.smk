# READS   tables of all stages below results/<run>/
# WRITES  report/index.html and the files it shows; opens offline


rule write_report:
    input:
        **GRAPH.write_report().input_files,
    output:
        page=PATHS.report,
    log:
        PATHS.log("report", "write_report"),
    benchmark:
        PATHS.benchmark("report", "write_report")
    params:
        options=GRAPH.write_report().options,
        version=stage_version("report"),
    message:
        "report: {output.page}"
    shell:
        "bowerbird write-report"
        " --root {PATHS.root}"
        " --config {PATHS.config}"
        " --output {output.page}"
        " {params.options}"
        " 2> >(tee {log} >&2)"
