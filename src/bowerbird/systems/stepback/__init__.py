"""Stepback: "Enhanced Disentanglement for Voice Conversion via Multi-Task Learning" (arXiv 2501.15613).

The idea is published: an encoder and a decoder on spectrograms are prepared by reconstruction; a speaker classifier learns on
speech features; then small stages alternate, of robustness and of a *dual flow*: one latent goes back to its own speaker and
on to another, and a constraint called the self-destructive amendment, which pushes the conversion away from the source,
optimizes the content encoder. Networks, losses and values below are those of the closest published recipe (Chou, Yeh, Lee and
Lee 2018, arXiv 1804.02812) where it has them, and ours where it has not.

    x         spectrogram of the source, speaker s;  t another speaker of the batch
    z         E(x), the content;  D(z, s) the decoder;  p(. | x) the classifier C, frozen after its stage

    stage 1   preparation   L_rec   = |D(E(x), s) - x|
    stage 2   classifier    L_clf   = -log p(s | x)  +  w L_clf of D(E(x), s), both networks of stage 1 frozen
    stage 3   dual flow     x_s = D(z, s), x_t = D(z, t), from one z
                            L_rec   = |x_s - x|                      encoder and decoder
                            L_to    = -log p(t | x_t)                encoder and decoder
                            L_away  = -log (1 - p(s | x_t))          encoder and decoder
                            L_amend = max(0, m - |x_t - x|)          encoder alone
              robustness    L_rob   = |D(E(x~), s) - x|, x~ noisy    encoder alone; each `robustness_every`-th step
    convert   vocoder(D(E(x), t))

From 2018: the networks (``nn/multitarget.py``: convolution bank, instance normalization, GRU, the speaker added before each
layer of the decoder), the L1, Adam (1e-4; 0.5, 0.9), gradients of norm 5 at most, batch 32, crops of 1.6 s, dropout.

What we chose: all of stage 3's formulas and weights. L_amend maximizes the distance from source to conversion and is bounded:
it is at most m, and beyond the margin m both it and its gradient are zero. The decoder's learning rate is a tenth of the
encoder's. Noise is added in the power domain, on half of the items with a band limit. A speaker is the embedding of some of
their speech by a frozen verifier (`speakers: reference`; then C is a cosine classifier: it returns an embedding, and scores are
cosines to the embeddings of the batch's speakers), or a vector learned for each training speaker (`table`, as published).
Crops and z are at 50 and 12.5 frames per second instead of 80 and 10.
"""
