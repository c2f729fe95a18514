"""Transcribe real speech that comes without a transcript: Moonshine base (27 to 61 M parameters, MIT) through ONNX Runtime.

Moonshine (Jeffries et al., arXiv:2410.15608) reads a waveform of 16 kHz and writes tokens, greedily here. Its weights lie in the npm
package @usefulsensors/moonshine-js 0.1.10, the tokens' spelling in the Python package moonshine-voice; the Snakefile of this folder
fetches both. Needs onnxruntime.

    python workflow/nano/transcribe.py --model MODEL --corpus DATA/librispeech-mini --split train --output transcripts.tsv

MODEL is a folder with encoder_model.onnx, decoder_model_merged.onnx and tokenizer.bin. The output's columns are utt_id and text.
It is written utterance by utterance under a temporary name: a run that was stopped goes on after the last one, and the table is
there when it is whole.

Letters: ``N`` samples.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
from tables import read_split, read_table

RATE = 16000
BEGIN, END = 1, 2
TOKENS_PER_S = 6.5  # the model's own bound: beyond it, it repeats itself


def read_tokens(path: Path) -> list[bytes]:
    """The spellings of all tokens. Each is preceded by its length: one byte below 128, otherwise two (seven low bits, then the rest)."""
    data, tokens, place = path.read_bytes(), [], 0
    while place < len(data):
        length = data[place]
        place += 1
        if length >= 128:
            length = length - 128 + data[place] * 128
            place += 1
        tokens.append(data[place : place + length])
        place += length
    return tokens


class Moonshine:
    """The recognizer in a folder: samples at 16 kHz in, text out."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.log_severity_level = 3
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(str(folder / name), settings, providers=["CPUExecutionProvider"])
            for name in ("encoder_model.onnx", "decoder_model_merged.onnx")
        )
        self.tokens = read_tokens(folder / "tokenizer.bin")
        self.outputs = [output.name for output in self.decoder.get_outputs()]
        self.caches = {
            i.name: [1, i.shape[1], 0, i.shape[3]] for i in self.decoder.get_inputs() if i.name.startswith("past")
        }

    def transcribe(self, samples: np.ndarray) -> str:
        """The words of ``(N,)`` float32 at 16 kHz as Moonshine writes them, with case and punctuation."""
        states = self.encoder.run(None, {self.encoder.get_inputs()[0].name: samples[None]})[0]
        cache = {name: np.zeros(shape, np.float32) for name, shape in self.caches.items()}
        written = [BEGIN]
        for step in range(int(len(samples) / RATE * TOKENS_PER_S)):
            inputs = {
                "input_ids": np.array([written[-1:]], np.int64),
                "encoder_hidden_states": states,
                "use_cache_branch": np.array([step > 0]),
                **cache,
            }
            found = dict(zip(self.outputs, self.decoder.run(None, inputs), strict=True))
            written.append(int(found["logits"][0, -1].argmax()))
            if written[-1] == END:
                break
            for name in cache:
                if step == 0 or ".decoder." in name:  # the encoder's keys and values stay those of the first step
                    cache[name] = found[name.replace("past_key_values", "present")]
        spelling = b"".join(self.tokens[number] for number in written[1:] if number > END)
        return spelling.decode("utf-8", "ignore").replace("\u2581", " ").strip()


def main() -> None:
    """Transcribe the utterances that are not in the table yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of the three files")
    parser.add_argument("--corpus", type=Path, required=True, help="folder with utterances.tsv and the audio it lists")
    parser.add_argument("--split", default="train")
    parser.add_argument("--output", type=Path, required=True, help="table (TSV) of utt_id and text")
    options = parser.parse_args()
    rows = read_split(options.corpus, options.split)
    partial = options.output.with_name(f"{options.output.name}.part")
    if options.output.exists():
        os.replace(options.output, partial)
    if not partial.exists():
        partial.write_text("utt_id\ttext\n")
    known = {row["utt_id"] for row in read_table(partial)}
    recognizer = Moonshine(options.model)
    for number, row in enumerate(rows):
        if row["utt_id"] in known:
            continue
        samples = soundfile.read(options.corpus / row["path"], dtype="float32")[0]
        text = recognizer.transcribe(samples)
        with open(partial, "a", encoding="utf-8", newline="") as table:
            csv.writer(table, delimiter="\t", lineterminator="\n").writerow((row["utt_id"], text))
        if number % 20 == 0:
            print(f"{number} of {len(rows)}: {text}", flush=True)
    os.replace(partial, options.output)


if __name__ == "__main__":
    main()
