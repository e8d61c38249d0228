"""The paper's networks in plain PyTorch, as (block, auxiliary head) pairs."""

import torch
from torch import nn


class InvertibleDownsampling(nn.Module):
    def forward(self, x):
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(b, 4 * c, h // 2, w // 2)


def simcnn(layers=4, width=128, aux_width=128, downsample_at=(2,), classes=10, convolutions=2):
    """SimCNN for k > 1, with heads of k - 1 convolutions."""
    blocks, heads, channels, factor = [], [], 3, 1
    for layer in range(layers):
        parts = []
        if layer in downsample_at:
            parts.append(InvertibleDownsampling())
            channels *= 4
            factor *= 2 if layer > 0 else 1
        out = width * factor
        parts += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        blocks.append(nn.Sequential(*parts))
        aux, inputs, head = aux_width * factor, out, []
        for _ in range(convolutions):
            head += [nn.Conv2d(inputs, aux, 3, padding=1, bias=False), nn.BatchNorm2d(aux), nn.ReLU()]
            inputs = aux
        head += [nn.AdaptiveAvgPool2d(2), nn.BatchNorm2d(inputs), nn.Flatten(), nn.Linear(4 * inputs, classes)]
        heads.append(nn.Sequential(*head))
        channels = out
    return blocks, heads


VGG11 = [(64, False), (128, True), (256, True), (256, False), (512, True), (512, False), (512, True), (512, False)]


def vgg11(size, classes=10, width=64):
    """VGG-11 with batch norm; heads padded by 1 where the images are too small for the paper's."""
    blocks, heads, channels, side = [], [], 3, size
    padding = 0 if size >= 224 else 1
    for layer, (channels_at_64, pooled) in enumerate(VGG11):
        out = channels_at_64 * width // 64
        parts = [nn.MaxPool2d(2)] if pooled else []
        side = side // 2 if pooled else side
        parts += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
        blocks.append(nn.Sequential(*parts))
        if layer < len(VGG11) - 1:
            wide = 2 * out
            head = [nn.AdaptiveAvgPool2d(-(-side // 2))]
            for inputs in (out, wide):
                conv = nn.Conv2d(inputs, wide, 3, padding=padding, bias=False)
                head += [conv, nn.BatchNorm2d(wide), nn.ReLU()]
            head += [nn.AdaptiveAvgPool2d(2), nn.BatchNorm2d(wide), nn.Flatten(), nn.Linear(4 * wide, classes)]
        else:
            wide = 4096 * width // 64
            head = [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(out * (side // 2) ** 2, wide), nn.ReLU()]
            head += [nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, classes)]
        heads.append(nn.Sequential(*head))
        channels = out
    return blocks, heads


def network(name, size, classes=10, width=64):
    """`width` is VGG-11's."""
    torch.manual_seed(0)
    return simcnn(classes=classes) if name == "simcnn-k3" else vgg11(size, classes, width)
