"""Pretrained and bundled models, one face a kind: self-supervised features, phones, speakers, recognisers."""
