"""What the notebooks did: load the whole model, then take W from it.

python benchmarks/rulers/notebook.py FOLDER OUTPUT
"""

import sys
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

checkpoint, output = sys.argv[1:]
folder = Path(output)
folder.mkdir(parents=True)
model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
w = model.lm_head.weight.detach().clone()
unique, inverse = torch.unique(w, dim=0, return_inverse=True)
counts = Counter(inverse.tolist())
ordered = sorted((row for row, count in counts.items() if count > 1), key=lambda row: -counts[row])
hole_of = {row: number for number, row in enumerate(ordered, 1)}
hole_ids = torch.tensor([hole_of.get(row, 0) for row in inverse.tolist()], dtype=torch.uint8)
gamma = w.float()
mu = gamma.mean(dim=0)
tensors = {"W": w, "black_hole_mask": hole_ids > 0, "black_hole_id": hole_ids, "black_hole_centroids": unique[ordered]}
save_file(tensors, folder / "workshop.safetensors")
save_file({"mu": mu}, folder / "mu.safetensors")
save_file({"gamma_centered": gamma - mu}, folder / "gamma_centered.safetensors")
