"""Layerwise training in PyTorch's eager Python, in two ways.

published: as the authors wrote it - fp32, NCHW, the frozen layers run with gradients enabled (their parameters need
none), images augmented one by one by a loader.
tuned: what a careful user would write - channels_last, bf16 autocast, the frozen layers without gradients, fused SGD,
the data set and its augmentation in whole batches on the device.
"""

import contextlib
import time

import numpy as np
import torch
import torch.nn.functional as F

from models import network

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)


class OneByOne(torch.utils.data.Dataset):
    """Pad, crop, mirror, scale and normalise one image, as torchvision's transforms do."""

    def __init__(self, images, labels, augmented):
        self.images, self.labels, self.augmented = images, labels, augmented
        self.mean = torch.tensor(MEAN).reshape(3, 1, 1)
        self.std = torch.tensor(STD).reshape(3, 1, 1)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        if self.augmented:
            side = image.shape[1]
            padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
            top, left = np.random.randint(0, 9, 2)
            image = padded[:, top : top + side, left : left + side]
            if np.random.rand() < 0.5:
                image = image[:, :, ::-1]
        tensor = torch.from_numpy(np.ascontiguousarray(image)).float().div_(255)
        return tensor.sub_(self.mean).div_(self.std), int(self.labels[i])


class Layer:
    """One auxiliary problem: layer j with its head, on the frozen layers below."""

    def __init__(self, name, size, layer, device, tuned, precision, end_to_end=False, width=64):
        blocks, heads = network(name, size, width=width)
        self.device, self.tuned, self.precision = device, tuned, precision
        self.frozen = torch.nn.Sequential(*([] if end_to_end else blocks[:layer])).to(device).eval()
        trained = blocks if end_to_end else [blocks[layer]]
        self.trained = torch.nn.Sequential(*trained, heads[-1 if end_to_end else layer]).to(device)
        for parameter in self.frozen.parameters():
            parameter.requires_grad_(False)
        if tuned:
            self.frozen.to(memory_format=torch.channels_last)
            self.trained.to(memory_format=torch.channels_last)
        options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
        self.optimizer = torch.optim.SGD(self.trained.parameters(), **options, **({"fused": True} if tuned else {}))

    def autocast(self):
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)

    def forward(self, inputs):
        with self.autocast():
            with torch.no_grad() if self.tuned else contextlib.nullcontext():
                features = self.frozen(inputs)
            return self.trained(features)

    def step(self, inputs, labels):
        self.trained.train()
        loss = F.cross_entropy(self.forward(inputs).float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def evaluate(self, inputs):
        self.trained.eval()
        with torch.inference_mode() if self.tuned else torch.no_grad():
            return self.forward(inputs).float()


class Images:
    """Images and labels in memory; tuned, on the device and channels_last."""

    def __init__(self, count, size, device, seed):
        generator = np.random.default_rng(seed)
        self.images = generator.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
        self.labels = generator.integers(0, 10, count)
        self.device_images = torch.from_numpy(self.images).to(device)
        self.device_labels = torch.from_numpy(self.labels).to(device)
        self.mean = torch.tensor(MEAN, device=device).reshape(1, 3, 1, 1) * 255
        self.inverse_std = 1 / (torch.tensor(STD, device=device).reshape(1, 3, 1, 1) * 255)

    def normalized(self, images):
        images = images.to(torch.float32, memory_format=torch.channels_last)
        return images.sub_(self.mean).mul_(self.inverse_std)

    def batch(self, places):
        """Augmented in one go."""
        images, labels = self.device_images[places], self.device_labels[places]
        n, _, height, width = images.shape
        padded = F.pad(images, (4, 4, 4, 4))
        rows = torch.randint(0, 9, (n, 1, 1), device=images.device) + torch.arange(height, device=images.device).reshape(1, -1, 1)
        columns = torch.randint(0, 9, (n, 1, 1), device=images.device) + torch.arange(width, device=images.device).reshape(1, 1, -1)
        each = torch.arange(n, device=images.device).reshape(-1, 1, 1)
        cropped = padded.permute(0, 2, 3, 1)[each, rows, columns].permute(0, 3, 1, 2)
        mirrored = torch.rand(n, 1, 1, 1, device=images.device) < 0.5
        return self.normalized(torch.where(mirrored, cropped.flip(3), cropped)), labels


def synchronize(device):
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def timed(device, work):
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def epoch(layer, train, test, batch_size, workers=2):
    """One epoch with augmentation and evaluation; returns the test accuracy."""
    count = len(train.labels)
    losses = 0.0
    if layer.tuned:
        total = torch.zeros((), device=layer.device)
        for places in torch.randperm(count, device=layer.device).split(batch_size):
            total += layer.step(*train.batch(places))
        losses = total.item()
        hits = torch.zeros((), dtype=torch.int64, device=layer.device)
        for start in range(0, len(test.labels), 500):
            images = test.device_images[start : start + 500]
            logits = layer.evaluate(test.normalized(images))
            hits += (logits.argmax(1) == test.device_labels[start : start + 500]).sum()
        return losses, hits.item() / len(test.labels)
    loader = torch.utils.data.DataLoader
    for images, labels in loader(OneByOne(train.images, train.labels, True), batch_size, shuffle=True, num_workers=workers):
        losses += layer.step(images.to(layer.device), labels.to(layer.device)).item()
    hits = 0
    for images, labels in loader(OneByOne(test.images, test.labels, False), 100, num_workers=workers):
        hits += (layer.evaluate(images.to(layer.device)).argmax(1) == labels.to(layer.device)).sum().item()
    return losses, hits / len(test.labels)
