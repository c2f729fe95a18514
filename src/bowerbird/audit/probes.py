"""What representations hold that they should not, as tables: ``bowerbird audit residual`` and ``bowerbird audit leakage``."""

from __future__ import annotations

from pathlib import Path

from bowerbird.artifacts import BowerbirdError
from bowerbird.tables import read_identity, read_table


def audit_residual(root: Path = Path("results/demo")) -> int:
    """Print what each codebook's residual holds: accuracy of linear probes for speaker and phone, in percent."""
    tables = sorted(root.glob("codebook/*/residual.parquet"))
    if not tables:
        raise BowerbirdError(f"{root}: no codebook/*/residual.parquet; make them with: make run ARGS=codebook")
    print("linear probes, fitted on two thirds of each utterance, tested on the rest (percent right; c: chance)")
    print(f"{'codebook':14} {'K':>6} {'|R|/|S|':>8}  " + "  ".join(f"{name:>14}" for name in ("speaker", "phone")))
    for path in tables:
        table, facts = read_table(path), read_identity(path)["facts"]
        print(f"{path.parent.name:14} {facts['codes']:6d} {facts['residual_energy'] ** 0.5:8.3f}")
        for name, rows in table.groupby("representation", sort=False):
            cells = {r.target: f"{100 * r.accuracy:5.1f} (c {100 * r.chance:4.1f})" for r in rows.itertuples()}
            print(f"  {name:28}  " + "  ".join(f"{cells.get(t, '-'):>14}" for t in ("speaker", "phone")))
    return 0


def audit_leakage(root: Path = Path("results/demo"), speakers: int = 40, utterances_per_speaker: int = 4) -> int:
    """Print how much of the speaker is left in Stepback's content, before and after its dual flow, in percent.

    A linear probe on the frames of z, fitted on all but one utterance of each training speaker (two thirds of it, where
    there is only one) and tested on the rest; beside it the reconstruction error on the tested utterances of the same model.
    """
    from bowerbird.config import load_config
    from bowerbird.layout import Layout
    from bowerbird.systems.leakage import probe_leakage

    config = load_config([root / "config.yaml"])
    layout = Layout(root, config.corpus.num_shards)
    rows: list[tuple[str, Path, list[Path]]] = []
    for name, experiment in config.experiments.items():
        if experiment.system != "stepback":
            continue
        for stage in ("preparation", "dual_flow"):
            folder = layout.model(experiment.reuse.get(stage, name), stage)
            if (folder / "model.safetensors").exists() and folder not in [row[1] for row in rows]:
                rows.append(
                    (f"{folder.parent.name}/{stage}", folder, layout.all_shards("features", experiment.features))
                )
    if not rows:
        raise BowerbirdError(f"{root}: no trained model of Stepback; make them with: make run ARGS=training")
    print("linear probes for the speaker on the content z; reconstruction: L1 of log spectra")
    print(f"{'model':40} {'speaker':>9} {'chance':>8} {'mean of z':>10} {'reconstruction':>15}")
    audio = layout.all_shards("audio")
    for name, folder, features in rows:
        found = probe_leakage(folder, layout.manifest, features, audio, speakers, utterances_per_speaker)
        print(
            f"{name:40} {100 * found.frames:8.1f}% {100 * found.chance:7.1f}% {100 * found.means:9.1f}% "
            f"{found.reconstruction:15.4f}"
        )
    return 0
