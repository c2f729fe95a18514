"""Mean shift: the source's frames get the mean and the standard deviation of the target's, dimension by dimension.

    x            a frame of the source, D dimensions
    m_s, d_s     mean and standard deviation of the source's frames; m_t, d_t: of all reference frames
    y            (x - m_s) / d_s * d_t + m_t, which the vocoder turns into a waveform

Nothing is learned. The same affine map is applied to every frame, so the frames of an utterance keep their order and their
relations to each other, and of the voice only what the two statistics hold is changed.
"""
