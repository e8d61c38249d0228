"""Measures on request: a JSON object a line on standard input, one a line on standard output."""

import asyncio
import contextlib
import gc
import json
import sys
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

import inference
from training import Images, Layer, epoch, timed

kept = {}


def keep(key, make):
    """What a case needs is made once; another case's is let go."""
    if key not in kept:
        kept.clear()
        kept[key] = make()
    return kept[key]


def dispatch(kind, repetitions, device="cpu", **_):
    """Nanoseconds an operator, on tensors of 4 elements."""
    a, b = torch.ones(4, device=device), torch.ones(4, device=device)
    start = time.perf_counter_ns()
    if kind == "add":
        for _ in range(repetitions):
            c = a + b
    elif kind == "add_":
        for _ in range(repetitions):
            a.add_(b)
    else:
        a.requires_grad_(True)
        for _ in range(repetitions):
            (a * b + b).sum().backward()
            a.grad = None
    return (time.perf_counter_ns() - start) / repetitions


def layer_of(network, size, layer, variant, precision, device, end_to_end=False):
    tuned = variant == "tuned"
    return Layer(network, size, layer, device, tuned, precision if tuned else "fp32", end_to_end)


def step(network, size, batch, layer, variant, precision, device, **_):
    """Seconds of one training step, augmentation included where it is done on the device."""

    def make():
        images = Images(2 * batch, size, device, 0)
        problem = layer_of(network, size, layer, variant, precision, device)
        places = torch.arange(batch, device=device)
        fixed = images.normalized(images.device_images[:batch]).contiguous(), images.device_labels[:batch]
        give = (lambda: images.batch(places)) if variant == "tuned" else (lambda: fixed)
        for _ in range(2):
            problem.step(*give())
        return problem, give

    problem, give = keep(("step", network, size, layer, variant), make)
    problem.step(*give()).item()  # a process that has waited finds its memory cold
    return timed(device, lambda: problem.step(*give()).item())


def rate(network, size, batch, layers, width, precision, device, seconds, **_):
    """Images a second of training steps, tuned, of all layers in turn, for some seconds."""

    def make():
        images = Images(2 * batch, size, device, 0)
        problems = [Layer(network, size, layer, device, True, precision, width=width) for layer in range(layers)]
        return problems, images, torch.arange(batch, device=device)

    def steps():
        for problem in problems:
            problem.step(*images.batch(places)).item()

    problems, images, places = keep(("rate", network, size, width), make)
    steps()
    rounds, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        steps()
        rounds += 1
    return rounds * layers * batch / (time.perf_counter() - start)


def operations(network, size, batch, layer, precision, device, **_):
    """Operations of one training step, as PyTorch counts its convolutions and products: 2 a multiply-add."""
    problem = layer_of(network, size, layer, "tuned", precision, device)
    inputs = torch.rand(batch, 3, size, size, device=device)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    with FlopCounterMode(display=False) as counter:
        problem.step(inputs, labels)
    return counter.get_total_flops()


def whole_epoch(network, size, batch, layer, variant, precision, device, train, test, **_):
    """Seconds of one epoch with augmentation and evaluation."""

    def make():
        sets = Images(train, size, device, 0), Images(test, size, device, 1)
        problem = layer_of(network, size, layer, variant, precision, device)
        inputs = sets[0].normalized(sets[0].device_images[:batch])
        for _ in range(2):
            problem.step(inputs, sets[0].device_labels[:batch])
        return problem, sets

    problem, sets = keep(("epoch", network, size, layer, variant), make)
    problem.step(sets[0].normalized(sets[0].device_images[:batch]), sets[0].device_labels[:batch]).item()
    return timed(device, lambda: epoch(problem, *sets, batch))


def serve(network, size, concurrent, seconds, most_at_once, **_):
    """Images a second and latencies of a trained network that answers calls."""
    answer = keep(("serve", network, size), lambda: inference.answers(inference.classifier(network, size)))
    return asyncio.run(inference.load(answer, size, concurrent, seconds, most_at_once))


def export_onnx(network, size, file, **_):
    """Writes the same network for onnxruntime; gives 0."""
    with contextlib.redirect_stdout(sys.stderr):
        inference.export_onnx(inference.Classifier(network, size).eval(), size, file)
    return 0


def memory(network, size, batch, layer, end_to_end, device, **_):
    """Peak bytes of a training step above what the network and the images take: activations, gradients and momentum.
    For a process of its own, where a small step of the same kind has been made before."""
    small = layer_of(network, 32, 0, "published", "fp32", device)
    small.step(torch.rand(2, 3, 32, 32, device=device), torch.zeros(2, dtype=torch.int64, device=device))
    del small
    gc.collect()
    problem = layer_of(network, size, layer, "published", "fp32", device, end_to_end)
    inputs = torch.rand(batch, 3, size, size, device=device)
    labels = torch.randint(0, 10, (batch,), device=device)
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        problem.step(inputs, labels)
        return torch.cuda.max_memory_allocated() - start
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    start = resident("VmRSS")
    problem.step(inputs, labels)
    return resident("VmHWM") - start


def resident(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


MEASURES = {
    **{"dispatch": dispatch, "rate": rate, "step": step, "operations": operations, "epoch": whole_epoch, "memory": memory},
    **{"serve": serve, "export_onnx": export_onnx},
}


def main():
    torch.set_num_threads(int(sys.argv[1]))
    print(json.dumps({"torch": torch.__version__, "python": sys.version.split()[0]}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": MEASURES[request.pop("measure")](**request)}
        except Exception as error:  # told to the caller, who names the case
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
