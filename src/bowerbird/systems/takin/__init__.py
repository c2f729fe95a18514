"""Takin-VC: hybrid content and enhanced timbre, with conditional flow matching (Yang et al., arXiv 2410.01350).

    X_s, X_p     self-supervised features (WavLM, layer 6) and phonetic ones (of a recognizer) of the source
    X~_s         RVQ(X_s): one level, 8200 codes of 1024 dimensions; EMA, k-means start, dead codes restart
    content      c = LeakyReLU_0.2(Conv1d(X~_s)) * X_p          fusion: product, or a weighted sum
    context      query c; keys and values: the reference's mel frames, each with the speaker embedding e beside it;
                 6 layers of cross-attention, 8 heads, 1024 dimensions
    memory       m = mean_t SelfAttention^4(Conv1d(reference's mel)), modulates the U-Net (FiLM)
    flow         v(x_t, t | context, m): a U-Net of 10 layers of 3 residual blocks, width 1280;
                 L = |v - u|^2 + lambda_vq |X_s - X~_s|^2, lambda_vq = 0.01, paths in ``nn/flow.py`` (sigma = 1e-4)
    stages       1. content: the content encoder with a decoder, as a codec     2. flow: all of the above
                 before them, where asked for: ppg, a recognizer of our own whose results are X_p (``recognizer.py``)
    convert      noise -> mel by 5 to 20 Euler steps, with classifier-free guidance; then a vocoder of mels (BigVGAN)

The sizes and losses above are the paper's. What we chose: self-supervised features, phones and mels have one rate (50 frames
per second), so nothing is interpolated (except to the rate of a published vocoder's mels); X_s goes through a linear map
before RVQ, because the features are frozen and the commitment would have nothing to move, and X_p through one where its size
is not the content's; the reference's frames are a set to all that reads them (no positions, the memory's Conv1d is one frame
wide), which does what the paper does by shuffling them; "10 layers" are five down and five up; the codec's decoder is given
the speaker embedding, so that the content need not hold it; e and m of a training item come from other speech of its speaker.
"""
