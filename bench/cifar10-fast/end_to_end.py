"""An end-to-end network of the same kind in PyTorch: what these images allow in about ten epochs.

    python bench/cifar10-fast/end_to_end.py DIR/cifar-10-batches-bin [--seed 1] [--threads 1]

Network and hyper-parameters of Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (arXiv 2404.00498), appendix: whitened 2x2 patches, three groups
of two convolutions, GELU, batch norm without weights whose biases have 64 times the rate, Nesterov, label smoothing, alternating flips, crops after
reflection by 2 pixels, averaged weights. Trains on 45,000 images and tests the 5,000 held out after each epoch; the test batch is not read.
"""

import argparse
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HELD_OUT = 5_000
WIDTHS = (64, 256, 256)
EPOCHS, BATCH = 9.9, 1024
MOMENTUM, BIAS_SCALE, SMOOTHING, PADDING = 0.85, 64.0, 0.2, 2
# Of a step on a sum over 1,024 images, in units of what momentum adds up to.
UNIT = 1024 * (1 + 1 / (1 - MOMENTUM))
RATE, DECAY = 11.5 / UNIT, 0.0153 * 1024 / UNIT
WHITENING_BIAS_EPOCHS, AVERAGE_EVERY = 3, 5
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def load(folder):
    records = np.concatenate([np.fromfile(f"{folder}/data_batch_{i}.bin", np.uint8).reshape(-1, 3073) for i in range(1, 6)])
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32)).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
    return images, torch.from_numpy(records[:, 0].astype(np.int64))


class Norm(nn.BatchNorm2d):
    def __init__(self, features):
        super().__init__(features, eps=1e-12, momentum=0.4)
        self.weight.requires_grad = False


class Group(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.second = (nn.Conv2d(i, outputs, 3, padding=1, bias=False) for i in (inputs, outputs))
        self.norms = nn.ModuleList([Norm(outputs), Norm(outputs)])
        for conv in (self.first, self.second):
            nn.init.dirac_(conv.weight.data[: conv.in_channels])

    def forward(self, x):
        x = F.gelu(self.norms[0](F.max_pool2d(self.first(x), 2)))
        return F.gelu(self.norms[1](self.second(x)))


class Net(nn.Module):
    def __init__(self, patches):
        super().__init__()
        self.whitening = nn.Conv2d(3, 24, 2)
        self.whitening.weight.requires_grad = False
        self.whitening.weight.data[:] = whitening_filters(patches)
        self.whitening.bias.data.zero_()
        self.groups = nn.Sequential(*(Group(i, o) for i, o in zip((24, *WIDTHS), WIDTHS)))
        self.head = nn.Linear(WIDTHS[-1], 10, bias=False)

    def forward(self, x):
        x = self.groups(F.gelu(self.whitening(x)))
        return self.head(F.max_pool2d(x, 3).flatten(1)) / 9


def whitening_filters(images):
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / torch.sqrt(values + 5e-4)).T.flip(0).reshape(12, 3, 2, 2)
    return torch.cat([filters, -filters])


def augmented(images, mirrored):
    images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
    padded = F.pad(images, (PADDING,) * 4, "reflect")
    shifts = torch.randint(2 * PADDING + 1, (len(images), 2))
    for dy in range(2 * PADDING + 1):
        for dx in range(2 * PADDING + 1):
            these = (shifts[:, 0] == dy) & (shifts[:, 1] == dx)
            images[these] = padded[these][:, :, dy : dy + 32, dx : dx + 32]
    return images


class Average:
    """Weights that the network is drawn back to, every few steps."""

    def __init__(self, net):
        self.net = net
        self.kept = {name: value.clone() for name, value in net.state_dict().items()}

    def update(self, decay):
        for name, value in self.net.state_dict().items():
            if value.is_floating_point():
                self.kept[name].lerp_(value, 1 - decay)
                value.copy_(self.kept[name])


def accuracy(net, images, labels):
    net.eval()
    hits = [0, 0]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for x, y in zip(images.split(500), labels.split(500)):
            plain = net(x).float()
            both = plain + net(x.flip(3)).float()
            hits = [sum_ + (logits.argmax(1) == y).sum().item() for sum_, logits in zip(hits, (plain, both))]
    net.train()
    return [hit / len(images) for hit in hits]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    images, labels = load(args.folder)
    x, y, held, held_labels = images[:-HELD_OUT], labels[:-HELD_OUT], images[-HELD_OUT:], labels[-HELD_OUT:]
    net = Net(x[:5000]).to(memory_format=torch.channels_last)
    biases = [norm.bias for group in net.groups for norm in group.norms]
    others = [p for p in net.parameters() if p.requires_grad and all(p is not bias for bias in biases)]
    of_biases = dict(params=biases, lr=RATE * BIAS_SCALE, weight_decay=DECAY / (RATE * BIAS_SCALE))
    of_others = dict(params=others, lr=RATE, weight_decay=DECAY / RATE)
    optimizer = torch.optim.SGD([of_biases, of_others], momentum=MOMENTUM, nesterov=True)
    steps_per_epoch = len(x) // BATCH
    total = math.ceil(steps_per_epoch * EPOCHS)
    peak = int(0.23 * total)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: 0.2 + 0.8 * s / peak if s < peak else 1 - 0.93 * (s - peak) / (total - peak)
    )
    average = Average(net)
    mirrored = torch.rand(len(x)) < 0.5
    started, step = (time.time(), time.process_time()), 0
    for epoch in range(math.ceil(EPOCHS)):
        net.whitening.bias.requires_grad = epoch < WHITENING_BIAS_EPOCHS
        shown = augmented(x, mirrored if epoch % 2 == 0 else ~mirrored).contiguous(memory_format=torch.channels_last)
        order = torch.randperm(len(x))
        hits = seen = 0
        for batch in order[: steps_per_epoch * BATCH].split(BATCH):
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(shown[batch])
            loss = F.cross_entropy(logits.float(), y[batch], label_smoothing=SMOOTHING, reduction="sum")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            step += 1
            hits, seen = hits + (logits.argmax(1) == y[batch]).sum().item(), seen + BATCH
            if step % AVERAGE_EVERY == 0:
                average.update(0.95**5 * (step / total) ** 3)
            if step == total:
                average.update(1.0)
                break
        plain, both = accuracy(net, held, held_labels)
        seconds, cpu = time.time() - started[0], time.process_time() - started[1]
        print(f"epoch {epoch + 1}: training {hits / seen:.4f}, held out {plain:.4f}, mirrored {both:.4f}, {seconds:.0f} s, {cpu:.0f} s of the processor", flush=True)


main()
