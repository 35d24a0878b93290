"""Tiny models gain nothing from more threads, and lose much where other processes use the cores."""

import torch

torch.set_num_threads(1)
