"""The vocoder that the other systems share: features to 16 kHz speech. As a system of its own: copy synthesis.

    x    features of one layer, (T, D)                    y, ŷ    the recording and the generated wave, (320 T,)
    G    generator                                        ŷ = G(x)
    D    discriminators, least squares (LSGAN)

    hifigan      kNN-VC's (Baas et al. 2023, section 3.3): HiFi-GAN v1 (Kong et al. 2020, equation 9)
    losses       knnvc         45 |mel(ŷ) - mel(y)|  +  2 feature matching  +  adversarial
                 qrvc          20 |mel(ŷ) - mel(y)|  +  2 feature matching  +  adversarial
                 palindromic   multi-resolution STFT  +  adversarial
    prematched   x is the mean of each frame's nearest neighbors in the same speaker's other utterances, as the generator
                 meets them at conversion; real features where no pairs are given

What we chose: the nano generators add terms that let them get far in few steps, a multi-resolution STFT to kNN-VC's losses
and a mel term to Palindromic VC's; the source-filter generator learns the pitch of the recording, which it is given while it
trains. ``pretrained.py`` reads NVIDIA's BigVGAN weights.
"""
