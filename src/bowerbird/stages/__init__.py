"""The chain. Each stage is a package of this name; its ``VERSION`` says which bytes the same input gives."""

# In the order of the data; the only list of stages.
STAGES = ("corpus", "features", "codebook", "pairs", "training", "conversion", "evaluation", "report")
