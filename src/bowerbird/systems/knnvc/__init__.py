"""kNN-VC: voice conversion with just nearest neighbors (Baas, van Niekerk and Kamper, Interspeech 2023).

Nothing is trained but the vocoder. Section 3 of the paper, top to bottom:

    1. encoder        source and references become WavLM features, one vector per 20 ms (stage `features`)
    2. matching set   all frames of all reference utterances
    3. matching       each source frame is replaced by the mean of its k = 4 nearest frames of the matching set, by cosine
                      distance                                                                   (``retrieval.py``)
    4. vocoder        HiFi-GAN turns the replaced frames into a waveform                         (``systems/vocoder``)

What we chose: the neighbors have equal weights, as in the paper; those of equal distance go by their position. The control
`retrieval: random` draws k frames per source frame whatever the source says.
"""
