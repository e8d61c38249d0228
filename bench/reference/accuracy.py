"""One layerwise run of SimCNN k = 3 on part of CIFAR-10, as bench/accuracy.mjs runs it here: accuracy by layer.

python accuracy.py REQUEST, a JSON object of dataDir, seed, width, epochs, rate, precision (fp32 or bf16), train and test
(how many images) and threads. Prints {"layers": [{"testTop1", "ensembleTop1"}]}, in per cent.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

from models import simcnn
from training import Images

BATCH = 128


class Cifar10(Images):
    """The first `count` images of files of the binary layout: a label, then 3 x 32 x 32 bytes, an image."""

    def __init__(self, folder, names, count):
        super().__init__(0, 32, "cpu", 0)
        rows = np.concatenate([np.fromfile(folder / name, np.uint8).reshape(-1, 3073) for name in names])[:count]
        self.device_images = torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).copy())
        self.device_labels = torch.from_numpy(rows[:, 0].astype(np.int64))


def precision_of(request):
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=request["precision"] == "bf16")


def train_layer(request, blocks, head, train):
    *frozen, block = blocks
    trained = torch.nn.Sequential(block, head).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(trained.parameters(), lr=request["rate"], momentum=0.9, weight_decay=5e-4, fused=True)
    frozen = torch.nn.Sequential(*frozen).eval()
    for _ in range(request["epochs"]):
        trained.train()
        for indices in torch.randperm(len(train.device_labels)).split(BATCH):
            images, labels = train.batch(indices)
            with precision_of(request):
                with torch.no_grad():
                    features = frozen(images)
                loss = F.cross_entropy(trained(features).float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    trained.eval()


def logits_of(request, modules, test):
    parts = test.device_images.split(500)
    with torch.inference_mode(), precision_of(request):
        return torch.cat([torch.nn.Sequential(*modules)(test.normalized(part)).float() for part in parts])


def main(request):
    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    folder = pathlib.Path(request["dataDir"]) / "cifar-10-batches-bin"
    train = Cifar10(folder, [f"data_batch_{i}.bin" for i in range(1, 6)], request["train"])
    test = Cifar10(folder, ["test_batch.bin"], request["test"])
    blocks, heads = simcnn(width=request["width"], aux_width=request["width"])
    top1 = lambda scores: 100 * (scores.argmax(1) == test.device_labels).float().mean().item()
    layers, ensemble = [], 0
    for layer, head in enumerate(heads):
        train_layer(request, blocks[: layer + 1], head, train)
        logits = logits_of(request, [*blocks[: layer + 1], head], test)
        ensemble = ensemble + 2**layer * logits
        layers.append({"testTop1": top1(logits), "ensembleTop1": top1(ensemble)})
    print(json.dumps({"layers": layers}))


main(json.loads(sys.argv[1]))
