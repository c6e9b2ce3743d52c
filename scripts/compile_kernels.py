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

from hmgan.kernels import edited, finish, finish_forward, finish_gradient, leaky_fir, stencil

H100 = GPUTarget("cuda", 90, 32)
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
MAPS = ("fp32", "bf16")
TILE = {"ROWS": 16, "COLUMNS": 16, "CHANNELS": 64}
FIRS = (stencil.NONE, stencil.BLUR, stencil.BLUR_BOX)
SIZES = dict.fromkeys("CHW", "i32")


class Variant(NamedTuple):
    """A kernel under its constants, and the types of what they leave; pointers and sizes are multiples of 16."""

    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]

    def __str__(self) -> str:
        constants = ", ".join(f"{name.lower()} {value}" for name, value in self.constants.items() if name not in TILE)
        dtype = next(iter(self.types.values())).removeprefix("*")
        return f"{self.kernel.__name__}, {dtype}, {constants}".removesuffix(", ")


def types_of(maps: str, dtype: str, sums: str, **numbers: str) -> dict[str, str]:
    """Of arguments by name: maps of one type, and float32 for whatever is summed or small."""
    pointers = {f"{name}_ptr": f"*{dtype}" for name in maps.split()}
    return {**pointers, **{f"{name}_ptr": "*fp32" for name in sums.split()}, **numbers, **SIZES}


def variants() -> Iterator[Variant]:
    """Every kernel as a training at the port's widths calls it."""
    for dtype in MAPS:
        for fir in FIRS:
            yield from of_filter(dtype, fir)
        types = types_of("h out", dtype, "mean rstd scale shift")
        yield Variant(finish_forward.normalise_kernel, types, TILE)
        yield Variant(finish_gradient.norm_sums_kernel, types_of("g h", dtype, "mean sums products"), TILE)
        yield from of_edits(dtype)
    types = {**types_of("", "fp32", "mean m2 out_mean out_rstd"), "epsilon": "fp32"}
    yield Variant(finish_forward.merge_kernel, types, {**TILE, "TILES": finish.MERGED})


def of_filter(dtype: str, fir: int) -> Iterator[Variant]:
    """Of maps, with what a filter is joined by."""
    for flag in (False, True):
        types = {**types_of("a out", dtype, "bias"), "sign_ptr": "*u8"}
        yield Variant(leaky_fir.leaky_fir_kernel, types, {"FIR": fir, "GIVEN": flag, **TILE})
        types = {**types_of("g out", dtype, "sums"), "sign_ptr": "*u8"}
        yield Variant(leaky_fir.leaky_fir_transpose_kernel, types, {"FIR": fir, "SUMMED": flag, **TILE})
        sums = "noise mean rstd scale sums products bias strength"
        types = types_of("g h out", dtype, sums, gain="fp32")
        yield Variant(finish_gradient.activate_transpose_kernel, types, {"FIR": fir, "NOISE": flag, **TILE})
    types = types_of("v h", dtype, "bias strength noise mean m2", gain="fp32", bias_stride="i32")
    yield Variant(finish_forward.activate_kernel, types, {"FIR": fir, **TILE})


def of_edits(dtype: str) -> Iterator[Variant]:
    """Of kernels: as a convolution takes them, as a transposed one does, and fused ones."""
    for fast, slow, taps, flipped in (
        ("input", "output", 9, False), ("output", "input", 9, True), ("output", "input", 16, False),
    ):  # fmt: skip
        numbers = dict.fromkeys((f"{slow}_stride", "tap_stride", "outputs", "inputs"), "i32")
        constants = {f"{fast}_stride": 1, "TAPS": taps, "FLIPPED": flipped, "BLOCK": edited.BLOCK}
        tables = {f"{name}_ptr": "*fp32" for name in ("normal", "scale", "shift")}
        types = {"kernel_ptr": f"*{dtype}", **tables, "row_stride": "i32", **numbers}
        yield Variant(edited.edited_kernel, types, constants)
        yield Variant(edited.edited_transpose_kernel, {"g_ptr": f"*{dtype}", **tables, **numbers}, constants)


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
        if kind.startswith("*") or name in ("C", "outputs", "inputs") or name.endswith("_stride")
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
