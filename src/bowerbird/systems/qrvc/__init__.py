"""QR-VC: voice conversion by the quantization residual (Sim, Yoon and Suh, arXiv 2411.16147).

    S                         features of a self-supervised encoder, (T, 1024): WavLM-Large, layer 6
    Q = codebook(S)           content: the nearest K-means centroid of each frame (by cosine), frozen
    R = S - Q                 what quantization lost: the speaker, and how the words were spoken
    s = mean_t R              speaker: a constant of the utterance
    v = conv1x1(R - s)        speaking variation: 8 channels, too narrow for the speaker
    c = conv3(Q)              content, 1016 channels
    H = [c; v] + conv1x1(s)   (T, 1024), HiFi-GAN's input

    training     resynthesis of one utterance from its own Q, v and s; LSGAN + 2 feature matching + 20 mel
    conversion   Q and v of the source, s of the target

Everything between S, Q and the vocoder is linear (affine: the convolutions have biases), which a test proves. Sizes as
published: 58.74 M parameters with the generator, 46.75 M in the discriminators (VITS's).

What we chose: HiFi-GAN has 1024 channels and its first layer is the disentangler's output itself; with any other choice the
published number of parameters does not come out. Q, R and s come from `context_frames`, the generator learns on fewer frames
inside them.
"""
