"""A trained network that answers calls, in eager PyTorch: whatever waits when a batch is done is the next one."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

from models import network as network_of

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.201)
TOP = 5


class Classifier(nn.Module):
    """uint8 images [n, 3, size, size] to the likeliest classes: all blocks and the last head."""

    def __init__(self, name, size):
        super().__init__()
        blocks, heads = network_of(name, size)
        self.body = nn.Sequential(*blocks, heads[-1])
        self.register_buffer("scale", 1 / (255 * torch.tensor(STD).view(1, 3, 1, 1)))
        self.register_buffer("shift", (-torch.tensor(MEAN) / torch.tensor(STD)).view(1, 3, 1, 1))

    def forward(self, images):
        inputs = images.float() * self.scale + self.shift
        return self.body(inputs).softmax(1).topk(TOP)


def classifier(name, size):
    """Ready to answer, channels-last."""
    return Classifier(name, size).eval().to(memory_format=torch.channels_last)


def answers(model):
    """What answers a list of NumPy images, by list of (probabilities, labels)."""

    def answer(images):
        with torch.inference_mode():
            batch = torch.from_numpy(np.stack(images)).contiguous(memory_format=torch.channels_last)
            values, indices = model(batch)
            return list(zip(values.tolist(), indices.tolist()))

    return answer


async def load(answer, size, concurrent, seconds, most_at_once):
    """Images a second and latencies in milliseconds of so many callers, each of which calls again when it is answered."""
    loop = asyncio.get_running_loop()
    waiting, latencies, came = [], [], asyncio.Event()
    start = time.perf_counter()

    async def caller(seed):
        image = np.random.default_rng(seed).integers(0, 256, (3, size, size), dtype=np.uint8)
        while time.perf_counter() - start < seconds:
            begin = time.perf_counter()
            future = loop.create_future()
            waiting.append((image, future))
            came.set()
            await future
            latencies.append(1000 * (time.perf_counter() - begin))

    async def work(pool):
        while True:
            await came.wait()
            batch = waiting[:most_at_once]
            del waiting[:most_at_once]
            if not waiting:
                came.clear()
            results = await loop.run_in_executor(pool, answer, [image for image, _ in batch])
            for (_, future), result in zip(batch, results):
                future.set_result(result)
            await asyncio.sleep(0)  # the callers call again before the next batch is taken

    with ThreadPoolExecutor(1) as pool:
        worker = asyncio.create_task(work(pool))
        await asyncio.gather(*(caller(seed) for seed in range(concurrent)))
        took = time.perf_counter() - start
        worker.cancel()
    p50, p99 = np.percentile(latencies, [50, 99])
    return {"rate": len(latencies) / took, "p50": float(p50), "p99": float(p99)}


def export_onnx(model, size, file):
    batch = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    dynamic = {"images": {0: torch.export.Dim("n", min=1, max=4096)}}
    names = {"input_names": ["images"], "output_names": ["values", "indices"]}
    torch.onnx.export(model, (batch,), file, dynamo=True, dynamic_shapes=dynamic, verbose=False, **names)
