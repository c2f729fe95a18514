"""Imported once by the process that the stages' commands are forked from: every stage, with the libraries that it uses."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from bowerbird.cli.commands import STAGE_COMMANDS

torch.set_num_threads(1)
for command in STAGE_COMMANDS.values():
    command.load()
