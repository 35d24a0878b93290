"""What a model will take of a machine's memory, known from its folder before anything is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.engine import load
from policies.vllm import installed

SIZES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
FLOATS = ("F64", "F32", "F16", "BF16")  # stored so, loaded as the setting says; quantised weights stay as they are
PROCESS = {True: 1700 << 20, False: 1000 << 20}  # bytes of an engine's process beside weights and cache: CPU, CUDA


@dataclass(frozen=True)
class Claim:
    """Bytes that one model wants on one kind of device.

    Attributes:
        model: its folder.
        weights: in the type they are loaded in.
        cache: for keys and values; None for a share of what is there that the engine takes by itself.
        rest: of the engine's process.
        device: "cpu" or "cuda".
    """

    model: str
    weights: int
    cache: int | None
    rest: int = 0
    device: str = "cpu"

    @property
    def total(self) -> int:
        return self.weights + (self.cache or 0) + self.rest


def claim(model: str, dtype: str, memory: str | int | None, options: Mapping[str, Any]) -> Claim:
    """Of an engine of vLLM; raises ConfigError if `model` is not the folder of one."""
    path = Path(model)
    load.settings(path)
    cache = None if memory is None else load.size_in_bytes(memory)
    if "kv_cache_memory_bytes" in options:
        cache = int(options["kv_cache_memory_bytes"])
    cpu = installed.on_cpu()
    parallel = int(options.get("tensor_parallel_size", 1)) * int(options.get("pipeline_parallel_size", 1))
    return Claim(
        model, weights(path, dtype), cache and cache * parallel, PROCESS[cpu] * parallel, "cpu" if cpu else "cuda"
    )


def weights(path: Path, dtype: str) -> int:
    """Bytes of the folder's weights once they are loaded as `dtype`."""
    total = 0
    for file in sorted(path.glob("*.safetensors")):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                begin, end = tensor["data_offsets"]
                floats = tensor["dtype"] in FLOATS and dtype in SIZES
                total += math.prod(tensor["shape"]) * SIZES[dtype] if floats else end - begin
    return total
