"""K-means codebooks over self-supervised features, and the units (codes) of every frame.

The codebook is fitted on frames of the *training* speakers only, drawn from memory-mapped shards, so a corpus never
has to fit in memory. Look-up by cosine with the un-normalised centroid returned is QR-VC's vector quantiser.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bowerbird import store
from bowerbird.artifacts import (
    IDENTITY_KEY,
    BowerbirdError,
    Identity,
    RunRecord,
    atomic_path,
    canonical_json,
    inputs_digest,
)
from bowerbird.codebook.usage import perplexity, usage_facts, usage_table
from bowerbird.config import CodebookConfig, RuntimeConfig
from bowerbird.nn.neighbours import Metric, Pool, pick_device
from bowerbird.tables import Shards, ShardWriter, read_table, write_table

VERSION = 1
log = logging.getLogger(__name__)
_CHUNK = 8192  # frames looked up at a time
_SEED_FRAMES = 64  # k-means++ chooses its start among this many frames a code


def fit_codebook(
    manifest: Path, features: list[Path], output: Path, options: CodebookConfig, runtime: RuntimeConfig
) -> None:
    """Fit K centroids on frames drawn from the training split.

    Writes ``output`` (centroids.safetensors: centroids ``(K, dim)`` float32, sizes ``(K,)`` int64, inertia_per_cluster
    ``(K,)`` float32, identity and facts in the metadata) and ``sample.parquet`` beside it: the frames it was fitted on.
    """
    device = pick_device(runtime.device)
    torch.set_num_threads(runtime.threads)
    params = options.model_dump(exclude={"features", "assignment"})
    identity = Identity("codebook", VERSION, params, _inputs(manifest=[manifest], features=features))
    sample_path = output.with_name("sample.parquet")
    with RunRecord(device=str(device), dtype="float32") as record:
        if store.fetch(identity, [sample_path, output], record):
            record.write(output, identity)
            return
        shards = Shards(features)
        sample = draw_sample(read_table(manifest, ["utt_id", "split"]), shards, options.sample_frames, options.seed)
        frames = gather_frames(shards, sample)
        fit = fit_kmeans(frames, options, device)
        facts = fit.facts()
        record.extra["facts"] = facts
        write_table(sample_path, sample, identity)
        record.write(sample_path, identity)
        record.write(output, identity)
        Codebook(fit.centroids, fit.sizes, fit.inertia_per_cluster, facts).save(output, identity)
        store.keep(identity, [sample_path, output])
    log.info(
        "%d codes on %d frames: inertia a frame %.4g, perplexity %.1f",
        options.num_codes,
        len(frames),
        facts["inertia"] / len(frames),
        facts["perplexity"],
    )


def assign_units(codebook: Path, features: Path, output: Path, assignment: str, runtime: RuntimeConfig) -> None:
    """Look up the code of every frame of one feature shard.

    ``assignment`` "cosine" or "euclidean". Writes a uint16 shard whose rows are those of the feature shard; of equally
    near codes the lowest wins.
    """
    metric = _metric(assignment)
    device = pick_device(runtime.device)
    torch.set_num_threads(runtime.threads)
    book = Codebook.load(codebook)
    identity = Identity(
        "codebook.units", VERSION, {"assignment": metric}, _inputs(codebook=[codebook], features=[features])
    )
    outputs = [output, output.with_suffix(".parquet")]
    record = RunRecord(device=str(device), dtype="float32")
    if store.fetch(identity, outputs, record):
        return
    with ShardWriter(output, "uint16") as writer:
        shards = Shards([features])
        _same_dim(book, shards, codebook)
        pool = Pool(book.centroids, metric, device)
        for utt in shards:
            writer.add(utt, _lookup(pool, np.asarray(shards[utt]), f"{features}: {utt}"))
        writer.close(identity, record, extra={"num_codes": len(book.centroids)})
    store.keep(identity, outputs)


def summarise_units(manifest: Path, codebook: Path, units: list[Path], output: Path) -> None:
    """Summarise how the codes are used, and by whom.

    Writes one row a code: frames, share, run_frames (mean length of a run of the code), speakers that use it,
    speaker_entropy (bits) and top_speaker_share; the facts embedded in the table describe the codebook as a whole.
    """
    book, shards = Codebook.load(codebook), Shards(units)
    identity = Identity("codebook.summary", VERSION, {}, _inputs(manifest=[manifest], codebook=[codebook], units=units))
    with RunRecord() as record:
        speaker_of = read_table(manifest, ["utt_id", "speaker"]).set_index("utt_id")["speaker"]
        speakers = sorted({speaker_of[utt] for utt in shards if utt in speaker_of.index})
        row = {name: number for number, name in enumerate(speakers)}
        counts = np.zeros((len(speakers), len(book.centroids)), dtype=np.int64)
        runs = np.zeros(len(book.centroids), dtype=np.int64)
        for utt in shards:
            if utt not in speaker_of.index:
                raise BowerbirdError(f"{manifest}: no utterance {utt!r}, which the units have; make the units again")
            codes = np.asarray(shards[utt], dtype=np.int64)
            counts[row[speaker_of[utt]]] += np.bincount(codes, minlength=len(book.centroids))
            runs += np.bincount(codes[np.flatnonzero(np.diff(codes, prepend=-1))], minlength=len(book.centroids))
        facts = usage_facts(counts)
        record.extra["facts"] = facts
        record.write(output, identity)
        write_table(output, usage_table(counts, runs), identity, extra={"facts": facts})


@dataclass(frozen=True)
class Codebook:
    """Centroids ``(K, dim)`` float32, their sizes and inertia on the sample, and the facts of the fit."""

    centroids: np.ndarray
    sizes: np.ndarray
    inertia_per_cluster: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> Codebook:
        """Read ``centroids.safetensors``."""
        if not Path(path).exists():
            raise BowerbirdError(f"{path}: no such codebook; run fit-codebook first")
        try:
            with safe_open(path, framework="np") as file:
                tensors = {name: file.get_tensor(name) for name in ("centroids", "sizes", "inertia_per_cluster")}
                record = json.loads((file.metadata() or {}).get(IDENTITY_KEY.decode(), "{}"))
        except (SafetensorError, OSError) as error:
            raise BowerbirdError(f"{path}: not a codebook ({error}); delete it and run fit-codebook again") from error
        return cls(**tensors, facts=record.get("facts", {}))

    def save(self, path: str | Path, identity: Identity) -> None:
        """Write atomically; the same codebook gives the same bytes."""
        tensors = {"centroids": self.centroids, "sizes": self.sizes, "inertia_per_cluster": self.inertia_per_cluster}
        metadata = {IDENTITY_KEY.decode(): canonical_json({**identity.as_dict(), "facts": self.facts})}
        with atomic_path(path, seal=True) as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary, metadata)


def quantize(units: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The centroid of each code: units ``(frames,)`` to float32 ``(frames, dim)``."""
    return np.asarray(centroids, dtype=np.float32)[np.asarray(units, dtype=np.int64)]


def lookup_units(frames: np.ndarray, centroids: np.ndarray, assignment: str = "cosine") -> np.ndarray:
    """Codes uint16 ``(frames,)`` of features ``(frames, dim)``; what `assign_units` does to a shard."""
    return _lookup(Pool(np.asarray(centroids, dtype=np.float32), _metric(assignment)), np.asarray(frames), "features")


# --- the sample ---------------------------------------------------------------------------------------------


def draw_sample(manifest: pd.DataFrame, shards: Shards, count: int, seed: int) -> pd.DataFrame:
    """``count`` distinct frames (all, if there are fewer), uniform over the frames of the training split.

    Returns utt_id and frame, in order of utterance and frame. Depends neither on the number nor on the order of shards.
    """
    training = set(manifest.loc[manifest["split"] == "train", "utt_id"])
    lengths = {utt: n for utt, n in sorted(shards.lengths().items()) if utt in training}
    ends = np.cumsum(list(lengths.values()), dtype=np.int64)
    if not len(ends) or ends[-1] == 0:
        raise BowerbirdError(
            "manifest.split: no frames of split 'train': a codebook is fitted on training speakers "
            "only; lower corpus.valid_speakers and corpus.test_speakers, or mark utterances as train"
        )
    total = int(ends[-1])
    if count >= total:
        log.info("the training split has %d frames, fewer than sample_frames = %d: all are taken", total, count)
        chosen = np.arange(total)
    else:
        chosen = np.sort(np.random.default_rng(seed).choice(total, count, replace=False, shuffle=False))
    which = np.searchsorted(ends, chosen, side="right")
    starts = ends - np.array(list(lengths.values()))
    names = np.array(list(lengths), dtype=object)
    return pd.DataFrame({"utt_id": names[which], "frame": (chosen - starts[which]).astype(np.int64)})


def gather_frames(shards: Shards, sample: pd.DataFrame) -> np.ndarray:
    """The sampled frames, float32 ``(n, dim)``, read from the memory-mapped shards in order of their place on disk."""
    place = shards.index.set_index("utt_id").loc[sample["utt_id"], ["file", "start"]]
    files, rows = place["file"].to_numpy(), place["start"].to_numpy() + sample["frame"].to_numpy()
    frames = np.empty((len(sample), *shards.row_shape), dtype=np.float32)
    for number, array in enumerate(shards.arrays):
        mine = np.flatnonzero(files == number)
        mine = mine[np.argsort(rows[mine], kind="stable")]
        for start in range(0, len(mine), _CHUNK):
            part = mine[start : start + _CHUNK]
            frames[part] = array[rows[part]]
    bad = np.flatnonzero(~np.isfinite(frames).all(axis=1))
    if len(bad):
        utt_id = sample["utt_id"].iloc[bad[0]]
        raise BowerbirdError(f"features: {utt_id}: values that are not finite; extract them again")
    return frames


# --- K-means ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KMeansFit:
    """One fit: inertia is the sum of squared distances to the nearest centroid."""

    centroids: np.ndarray  # (K, dim) float32
    sizes: np.ndarray  # (K,) int64
    inertia_per_cluster: np.ndarray  # (K,) float32
    inertia_per_iteration: list[float]
    repaired: int  # empty clusters that were given a frame of another cluster
    restart_inertias: list[float] = field(default_factory=list)

    @property
    def inertia(self) -> float:
        return float(self.inertia_per_cluster.sum(dtype=np.float64))

    def facts(self) -> dict[str, Any]:
        """What the artifact says about the fit."""
        return {
            "sample_frames": int(self.sizes.sum()),
            "inertia": self.inertia,
            "inertia_per_iteration": self.inertia_per_iteration,
            "restart_inertias": self.restart_inertias,
            "repaired_clusters": self.repaired,
            "perplexity": perplexity(self.sizes),
            "dead_codes": int((self.sizes == 0).sum()),
            "smallest_cluster": int(self.sizes.min()),
            "median_cluster": float(np.median(self.sizes)),
            "largest_cluster": int(self.sizes.max()),
        }


def fit_kmeans(frames: np.ndarray, options: CodebookConfig, device: torch.device | str = "cpu") -> KMeansFit:
    """The best of ``options.restarts`` fits of K-means to ``frames`` ``(n, dim)`` float32, by inertia.

    On the CPU the result is the same bytes for any number of threads: faiss runs the Lloyd iterations on one.
    """
    num_codes = options.num_codes
    if num_codes > len(frames):
        raise BowerbirdError(
            f"codebook.<name>.num_codes: {num_codes}: more codes than the {len(frames)} sampled "
            "frames; lower it, raise sample_frames, or add training speech"
        )
    distinct = count_distinct(frames, num_codes)
    if distinct < num_codes:
        raise BowerbirdError(
            f"codebook.<name>.num_codes: {num_codes}: the {len(frames)} sampled frames hold only "
            f"{distinct} distinct vectors; lower it, or look for silent or repeated audio"
        )
    fits = []
    for restart in range(options.restarts):
        rng = np.random.default_rng([options.seed, restart])
        with _one_thread():
            start = choose_start(frames, num_codes, options.init, rng)
            centroids, history = _lloyd(frames, start, options, restart, torch.device(device))
        fits.append(_finish(frames, centroids, history, device))
        log.info("restart %d of %d: inertia %.6g", restart + 1, options.restarts, fits[-1].inertia)
    best = min(fits, key=lambda fit: fit.inertia)
    return KMeansFit(
        best.centroids,
        best.sizes,
        best.inertia_per_cluster,
        best.inertia_per_iteration,
        best.repaired,
        [fit.inertia for fit in fits],
    )


def choose_start(frames: np.ndarray, num_codes: int, init: str, rng: np.random.Generator) -> np.ndarray:
    """Start centroids ``(K, dim)``: random frames, or greedy k-means++ among at most 64 K frames.

    k-means++ (Arthur and Vassilvitskii 2007) draws each start in proportion to the squared distance to the nearest
    start so far; greedy, of ``2 + ln K`` such draws the one that lowers the inertia most is taken.
    """
    if init == "random":
        return frames[np.sort(rng.choice(len(frames), num_codes, replace=False))]
    if len(frames) > _SEED_FRAMES * num_codes:
        frames = frames[np.sort(rng.choice(len(frames), _SEED_FRAMES * num_codes, replace=False))]
    points = torch.from_numpy(frames)
    squares = points.square().sum(1)
    draws = 2 + int(np.log(num_codes))
    chosen = [int(rng.integers(len(frames)))]
    nearest = _squared_distances(points, squares, chosen)[:, 0]
    while len(chosen) < num_codes:
        mass = nearest.double().cumsum(0)
        if mass[-1] <= 0:  # fewer distinct frames here than codes: the repair after the fit finds the others
            chosen.append(int(rng.integers(len(frames))))
            continue
        drawn = torch.searchsorted(mass, torch.from_numpy(rng.random(draws)) * mass[-1], right=True)
        candidates = drawn.clamp_max(len(frames) - 1).tolist()
        distances = torch.minimum(_squared_distances(points, squares, candidates), nearest[:, None])
        best = int(distances.sum(0, dtype=torch.float64).argmin())
        chosen.append(candidates[best])
        nearest = distances[:, best].contiguous()
    return frames[chosen]


def _squared_distances(points: torch.Tensor, squares: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """Squared distances ``(n, len(rows))`` of all points to some of them, exactly 0 to themselves."""
    distances = (squares[:, None] - 2 * (points @ points[rows].T) + squares[rows]).clamp_min_(0)
    distances[rows, range(len(rows))] = 0
    return distances


def _lloyd(
    frames: np.ndarray, start: np.ndarray, options: CodebookConfig, restart: int, device: torch.device
) -> tuple[np.ndarray, list[float]]:
    """Lloyd iterations by faiss, on the GPU where faiss can: centroids ``(K, dim)``, inertia before each iteration.

    faiss stops early when nothing moves any more, and splits empty clusters on the way.
    """
    import faiss

    gpu = device.type == "cuda" and hasattr(faiss, "StandardGpuResources")
    if device.type == "cuda" and not gpu:
        log.info("K-means runs on the CPU: this faiss is built without GPU support (extra: gpu)")
    kmeans = faiss.Kmeans(
        frames.shape[1],
        options.num_codes,
        niter=options.iterations,
        gpu=1 if gpu else False,
        seed=(options.seed + restart) % 2**31,
        min_points_per_centroid=1,
        max_points_per_centroid=len(frames),
    )
    kmeans.train(frames, init_centroids=np.ascontiguousarray(start, dtype=np.float32))
    history = [step["obj"] for step in kmeans.iteration_stats or []]
    return np.array(kmeans.centroids, dtype=np.float32), [float(value) for value in history]


def _finish(frames: np.ndarray, centroids: np.ndarray, history: list[float], device: torch.device | str) -> KMeansFit:
    """Sizes and inertia by exact assignment, after giving each empty cluster a frame.

    It takes the farthest frame of the cluster of largest inertia. Each round lowers the total inertia, so it ends.
    """
    repaired = 0
    for _ in range(len(centroids) + 1):
        codes, distances = _assign(frames, centroids, device)
        sizes = np.bincount(codes, minlength=len(centroids))
        inertia = np.bincount(codes, weights=distances, minlength=len(centroids))
        empty = np.flatnonzero(sizes == 0)
        if not len(empty):
            return KMeansFit(centroids, sizes.astype(np.int64), inertia.astype(np.float32), history, repaired)
        centroids = _means(frames, codes, centroids)
        distances = ((frames - centroids[codes]).astype(np.float64) ** 2).sum(axis=1)
        for code in empty:
            largest = np.argmax(np.bincount(codes, weights=distances, minlength=len(centroids)))
            members = np.flatnonzero(codes == largest)
            farthest = members[np.argmax(distances[members])]
            centroids[code] = frames[farthest]
            codes[farthest], distances[farthest] = code, 0.0
        repaired += len(empty)
    raise BowerbirdError(
        f"codebook.<name>.num_codes: {len(centroids)}: {len(empty)} clusters stay empty; "
        "lower it: the sampled frames have too few distinct values"
    )


def _assign(frames: np.ndarray, centroids: np.ndarray, device: torch.device | str) -> tuple[np.ndarray, np.ndarray]:
    """Code int64 ``(n,)`` and squared distance float64 ``(n,)`` of each frame."""
    pool = Pool(centroids, "euclidean", device)
    codes, distances = np.empty(len(frames), np.int64), np.empty(len(frames), np.float64)
    for start in range(0, len(frames), _CHUNK):
        part = slice(start, start + _CHUNK)
        codes[part] = pool.best(frames[part])
        distances[part] = ((frames[part].astype(np.float64) - centroids[codes[part]]) ** 2).sum(axis=1)
    return codes, distances


def _means(frames: np.ndarray, codes: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Mean of each cluster's frames; an empty cluster keeps its centroid."""
    result = centroids.copy()
    order = np.argsort(codes, kind="stable")
    used, starts = np.unique(codes[order], return_index=True)
    for code, members in zip(used, np.split(order, starts[1:]), strict=True):
        result[code] = frames[members].mean(axis=0, dtype=np.float64)
    return result


def count_distinct(frames: np.ndarray, enough: int) -> int:
    """Number of distinct frames, counted no further than ``enough``."""
    seen: set[bytes] = set()
    for frame in frames:
        seen.add(frame.tobytes())
        if len(seen) >= enough:
            break
    return len(seen)


@contextmanager
def _one_thread() -> Iterator[None]:
    """faiss and torch on one thread: sums come out in one order."""
    import faiss

    before = faiss.omp_get_max_threads(), torch.get_num_threads()
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before[0])
        torch.set_num_threads(before[1])


# --- look-up and usage --------------------------------------------------------------------------------------


def _lookup(pool: Pool, frames: np.ndarray, where: str) -> np.ndarray:
    codes = np.empty(len(frames), dtype=np.uint16)
    for start in range(0, len(frames), _CHUNK):
        part = frames[start : start + _CHUNK]
        if not np.isfinite(part).all():
            raise BowerbirdError(f"{where}: values that are not finite; extract the features again")
        codes[start : start + _CHUNK] = pool.best(part)
    return codes


def _metric(assignment: str) -> Metric:
    if assignment not in ("cosine", "euclidean"):
        raise BowerbirdError(f"assignment: {assignment}: unknown; use cosine or euclidean")
    return assignment  # type: ignore[return-value]


def _same_dim(book: Codebook, shards: Shards, codebook: Path) -> None:
    if shards.row_shape != book.centroids.shape[1:]:
        raise BowerbirdError(
            f"{codebook}: centroids of {book.centroids.shape[1]} dimensions, features of "
            f"{shards.row_shape[0]}; fit the codebook on the same features"
        )


def _inputs(**paths: list[Path]) -> dict[str, str]:
    return {role: inputs_digest(list(files)) for role, files in paths.items()}
