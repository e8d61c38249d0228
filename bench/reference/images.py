"""torchvision's transforms over Pillow, in worker processes: a JSON request a line, images a second in answer.

RandomResizedCrop(224) or Resize(256) and CenterCrop(224), each rewritten from its definition, and what follows in a data loader:
an array of its bytes. `images.py FOLDER`
"""

import json
import math
import multiprocessing
import random
import sys
import time
from pathlib import Path

import numpy
from PIL import Image

SIZE, RESIZE = 224, 256


def crop_of(width, height):
    """RandomResizedCrop.get_params with its defaults."""
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return random.randint(0, width - w), random.randint(0, height - h), w, h
    w, h = width, height
    if width / height < 3 / 4:
        h = round(width / (3 / 4))
    elif width / height > 4 / 3:
        w = round(height * (4 / 3))
    return (width - w) // 2, (height - h) // 2, w, h


def train(path):
    image = Image.open(path).convert("RGB")
    left, top, w, h = crop_of(*image.size)
    shown = image.crop((left, top, left + w, top + h)).resize((SIZE, SIZE), Image.BILINEAR)
    if random.random() < 0.5:
        shown = shown.transpose(Image.FLIP_LEFT_RIGHT)
    return len(numpy.array(shown))


def evaluate(path):
    image = Image.open(path).convert("RGB")
    width, height = image.size
    w, h = (RESIZE, int(RESIZE * height / width)) if width < height else (int(RESIZE * width / height), RESIZE)
    scaled = image.resize((w, h), Image.BILINEAR)
    left, top = round((w - SIZE) / 2), round((h - SIZE) / 2)
    return len(numpy.array(scaled.crop((left, top, left + SIZE, top + SIZE))))


TRANSFORMS = {"train": train, "evaluate": evaluate}


def main():
    files = sorted(str(path) for path in Path(sys.argv[1]).glob("*/*") if path.is_file())
    pools = {}
    print(json.dumps({"pillow": Image.__version__, "files": len(files)}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        workers = request["threads"]
        if workers not in pools:
            pools[workers] = multiprocessing.Pool(workers)
        work = files * request["passes"]
        start = time.perf_counter()
        pools[workers].map(TRANSFORMS[request["kind"]], work, chunksize=8)
        print(json.dumps(len(work) / (time.perf_counter() - start)), flush=True)
    for pool in pools.values():
        pool.terminate()


if __name__ == "__main__":
    main()
