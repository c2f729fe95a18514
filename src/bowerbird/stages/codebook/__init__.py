"""Stage *codebook*: K-means over features, the units (codes) of every frame, and what the two keep of a speaker.

    fit        centroids on a sample of training frames (sample, kmeans)
    assign     the code of every frame
    usage      how often each code is used, and by which speakers
    residual   what quantization leaves out, by linear probes

The codebook is fitted on frames of the *training* speakers only, read from memory-mapped shards, so a corpus never has to
fit in memory. Look-up by cosine with the centroid returned as it is, not normalized, is QR-VC's vector quantizer.
"""

from __future__ import annotations

VERSION = 1
