"""One table over the real and the synthetic training speech, for the study that trains the bundled vocoder.

    python workflow/nano/list_speech.py --librispeech-mini DATA/librispeech-mini --synthetic kokoro --output speech

The folder ``speech`` gets ``utterances.tsv`` and links to both; only librispeech-mini's train split is taken.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--librispeech-mini", type=Path, required=True)
    parser.add_argument("--synthetic", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name, target in (("real", options.librispeech_mini), ("synthetic", options.synthetic)):
        link = options.output / name
        if not link.is_symlink():
            link.symlink_to(target.resolve())
    with open(options.librispeech_mini / "utterances.tsv", encoding="utf-8") as table:
        real = [row for row in csv.DictReader(table, delimiter="\t") if row["split"] == "train"]
    rows = [
        (r["utt_id"], r["speaker"], f"real/{r['path']}", "valid" if n % 25 == 0 else "train")
        for n, r in enumerate(real)
    ]
    for label in sorted(options.synthetic.glob("k*.json")):
        speaker = f"k{int(label.stem[1:]) // 2:04d}"
        rows.append((label.stem, speaker, f"synthetic/{label.stem}.flac", "train"))
    with open(options.output / "utterances.tsv", "w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, delimiter="\t", lineterminator="\n")
        writer.writerow(("utt_id", "speaker", "path", "split"))
        writer.writerows(rows)
    facts = [json.loads(p.read_text())["text"] for p in sorted(options.synthetic.glob("k*.json"))]
    print(f"{len(real)} real and {len(facts)} synthetic utterances")


if __name__ == "__main__":
    main()
