"""Small ONNX files written by hand, so that loaders can be tested without the packages that export models.

Only the few fields of the format (protocol buffers) that a chain of nodes needs.
"""

from __future__ import annotations

from pathlib import Path


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _node(kind: str, inputs: list[str], outputs: list[str], **attributes: int) -> bytes:
    body = (
        b"".join(_bytes(1, name) for name in inputs) + b"".join(_bytes(2, name) for name in outputs) + _bytes(4, kind)
    )
    for name, value in attributes.items():  # of type INT (2)
        body += _bytes(5, _bytes(1, name) + _number(3, value) + _number(20, 2))
    return body


def _value(name: str, *shape: int | str) -> bytes:
    dims = b"".join(_bytes(1, _number(1, d) if isinstance(d, int) else _bytes(2, d)) for d in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, dims)))  # elements of type FLOAT (1)


def _write(folder: Path, nodes: list[bytes], inputs: list[bytes], output: bytes) -> Path:
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, "graph")
    graph += b"".join(_bytes(11, item) for item in inputs) + _bytes(12, output)
    model = _number(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _number(2, 13))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    return folder


def write_opinion(folder: Path) -> Path:
    """An exported scorer whose value is the mean magnitude of the wave."""
    nodes = [_node("Abs", ["wave"], ["size"]), _node("ReduceMean", ["size"], ["score"], keepdims=0)]
    return _write(folder, nodes, [_value("wave", 1, "samples")], _value("score"))


def write_embedder(folder: Path, inputs: int = 1, samples: int | str = "samples") -> Path:
    """A verifier whose embedding of a wave is (largest, smallest, mean) of its samples."""
    reduce = [_node(kind, ["wave"], [kind], keepdims=0) for kind in ("ReduceMax", "ReduceMin", "ReduceMean")]
    shaped = []
    for kind in ("ReduceMax", "ReduceMin", "ReduceMean"):
        shaped.append(_node("Expand", [kind, "one"], [f"{kind}1"]))
    one = [_node("Shape", ["row"], ["one"])]
    row = [_node("ReduceMax", ["wave"], ["all"], keepdims=1), _node("Flatten", ["all"], ["flat"], axis=0)]
    row += [_node("ReduceMax", ["flat"], ["row"], keepdims=1)]
    join = _node("Concat", ["ReduceMax1", "ReduceMin1", "ReduceMean1"], ["embedding"], axis=1)
    waves = [_value(f"wave{n or ''}", 1, samples) for n in range(inputs)]
    return _write(folder, [*reduce, *row, *one, *shaped, join], waves, _value("embedding", 1, 3))
