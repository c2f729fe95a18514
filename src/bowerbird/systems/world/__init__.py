"""A vocoder for two cores: a network predicts WORLD's parameters from features, and WORLD plays them.

    x    features, (T, D)                   p    WORLD's parameters of the recording, (T, 252): `bowerbird.nn.world`
    f    convolutions                       p̂ = f(x), normalized by mean and deviation of training speech

    losses    envelope_weight |ê - e|  over the log envelopes, in deviations of each value
              + |â - a| / 10           aperiodicity, in dB
              + cross-entropy          of voicing
              + |log F̂0 - log F0|     in voiced subframes

Nothing is adversarial and no wave is made in training. It is no paper's: published systems use generators of waves
(``systems/vocoder``), which need a GPU for days; this one makes words that a recognizer can follow after minutes (docs/nano.md).
Its models stand where any vocoder's do.
"""
