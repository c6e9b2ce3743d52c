"""Compiles every kernel for an H100 without one, and fails where one does not compile or spills registers.

    python scripts/compile_kernels.py

Needs Triton and nothing of CUDA: its wheel brings the assembler and the tool that says what a kernel uses.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hmgan.kernels import leaky_fir, stencil

H100 = GPUTarget("cuda", 90, 32)
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
MAPS = ("fp32", "bf16")
TILE = {"ROWS": 16, "COLUMNS": 16, "CHANNELS": 64}
FIRS = (stencil.NONE, stencil.BLUR, stencil.BLUR_BOX)


class Variant(NamedTuple):
    """A kernel under its constants, and the types of what they leave; pointers and channels are multiples of 16."""

    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]

    def __str__(self) -> str:
        constants = ", ".join(f"{name.lower()} {value}" for name, value in self.constants.items() if name not in TILE)
        dtype = next(iter(self.types.values())).removeprefix("*")
        return f"{self.kernel.__name__}, {dtype}, {constants}".removesuffix(", ")


def variants() -> Iterator[Variant]:
    """Every kernel as a training at the port's widths calls it."""
    sizes = dict.fromkeys("CHW", "i32")
    for dtype in MAPS:
        for fir in FIRS:
            for flag in (False, True):
                types = {"a_ptr": f"*{dtype}", "bias_ptr": "*fp32", "sign_ptr": "*u8", "out_ptr": f"*{dtype}", **sizes}
                yield Variant(leaky_fir.leaky_fir_kernel, types, {"FIR": fir, "GIVEN": flag, **TILE})
                types = {"g_ptr": f"*{dtype}", "sign_ptr": "*u8", "out_ptr": f"*{dtype}", "sums_ptr": "*fp32", **sizes}
                yield Variant(leaky_fir.leaky_fir_transpose_kernel, types, {"FIR": fir, "SUMMED": flag, **TILE})


class Usage(NamedTuple):
    """Of one thread: registers, and bytes on its stack, which is where registers spill to."""

    registers: int
    stack: int


def usage(variant: Variant) -> Usage:
    names = variant.kernel.arg_names
    signature = {name: variant.types.get(name, "constexpr") for name in names}
    aligned = {
        (names.index(name),): [["tt.divisibility", 16]]
        for name, kind in variant.types.items()
        if kind.startswith("*") or name == "C"
    }
    source = ASTSource(variant.kernel, signature, {(names.index(k),): v for k, v in variant.constants.items()}, aligned)
    cubin = triton.compile(source, target=H100, options={"num_warps": 4}).asm["cubin"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    assert found is not None, said
    return Usage(*map(int, found.groups()))


def main() -> None:
    spilt = 0
    for variant in variants():
        used = usage(variant)
        spilt += used.stack > 0
        print(f"{variant}: {used.registers} registers, {used.stack} bytes of stack")
    if spilt:
        sys.exit(f"{spilt} kernels spill registers; make their tiles smaller")


if __name__ == "__main__":
    main()
