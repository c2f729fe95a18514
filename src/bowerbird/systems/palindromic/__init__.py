"""Palindromic VC: "From A to B to A" (Mandel and Chazan 2026, arXiv 2606.08843).

Retrieval makes the training data, and is gone at conversion. Notation of the paper: capitals are features, small letters
waveforms; A is the target speaker, B a donor.

    pairs     A_1 -> B^_1     each frame of A's utterance replaced by the mean of its k nearest frames of B (stage `pairs`)
    stage 1   vocoder         features -> wave, MR-STFT + adversarial losses (``systems/vocoder``, losses: palindromic)
    stage 2   converter       A~_1 = T(B^_1; A_2), A_2 another utterance of A:
                              L = |A~_1 - A_1|  +  lambda_spk L_spk(a~_1, a_2),   a~_1 = vocoder(A~_1), the vocoder frozen
                              L_spk = 1 - cos(e(a~_1), e(a_2))  +  lambda_hid |h(a~_1) - h(a_2)|
                              with embedding e and hidden maps h of a frozen speaker verifier (ECAPA-TDNN)
    stage 3   revocoder       a new vocoder, stage 1's losses, on A~_1 instead of A_1
    convert   source S, prompt A: vocoder(T(S; A)); the source's own features stand where B^_1 stood

What we chose where the paper is silent: positions are rotary; T predicts the difference to its input (its last layer starts
at zero, so training starts from "no conversion"); L_spk compares hidden maps by their means over time, because a~_1 and a_2
have neither the same words nor the same length; the weight of the speaker loss rises linearly. T converts in overlapping
windows as long as the crops that it was trained on.
"""
