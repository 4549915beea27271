"""What a good engineer writes in ten minutes: W, its centroid, the centred rows and the black holes of one checkpoint.

python benchmarks/rulers/by_hand.py FILE TENSOR OUTPUT [few]
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

checkpoint, name, output, *few = sys.argv[1:]
folder = Path(output)
folder.mkdir(parents=True)
with safe_open(checkpoint, "pt") as file:
    w = file.get_tensor(name)
members: dict[bytes, list[int]] = {}
for index, row in enumerate(w.view(torch.uint8).numpy()):
    members.setdefault(row.tobytes(), []).append(index)
holes = sorted((ids for ids in members.values() if len(ids) > 1), key=lambda ids: (-len(ids), ids[0]))
hole_ids = torch.zeros(len(w), dtype=torch.int32 if len(holes) > 255 else torch.uint8)
for number, ids in enumerate(holes, 1):
    hole_ids[ids] = number
black_holes = {"black_hole_mask": hole_ids > 0, "black_hole_id": hole_ids}
black_holes["black_hole_centroids"] = w[[ids[0] for ids in holes]]
numbers = w.float().numpy()
mu = numbers.mean(axis=0, dtype=np.float64).astype(np.float32)
save_file({"mu": torch.from_numpy(mu)}, folder / "mu.safetensors")
save_file(black_holes, folder / "black_holes.safetensors")
if not few:
    save_file({"W": w}, folder / "W.safetensors")
    numbers -= mu
    save_file({"gamma_centered": torch.from_numpy(numbers)}, folder / "gamma_centered.safetensors")
