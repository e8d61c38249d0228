"""Pixels to scale, and what Pillow makes of them, for bench/resampling.cpp: `resampling.py FOLDER OUT`. Prints JSON.

The photographs of FOLDER are of 500 x 375 pixels each; a case is the middle of them, scaled, of which the middle is shown.
"""

import json
import struct
import sys
import time
from pathlib import Path

import numpy
from PIL import Image

SOURCE = (500, 375)
# Of a photograph (width, height), scaled to, shown.
CASES = [
    ((500, 375), (224, 224), (224, 224)),
    ((350, 262), (224, 224), (224, 224)),
    ((256, 256), (224, 224), (224, 224)),
    ((140, 140), (224, 224), (224, 224)),
    ((500, 375), (341, 256), (224, 224)),
]
MOST = 40
ROUNDS = 9


def middle(size, of):
    left, top = (round((outer - inner) / 2) for inner, outer in zip(size, of))
    return left, top, left + size[0], top + size[1]


def photographs(folder):
    for path in sorted(Path(folder).glob("*/*")):
        image = Image.open(path)
        if image.size == SOURCE and image.mode == "RGB":
            yield image.convert("RGB")


def scale(image, scaled, shown):
    whole = image.resize(scaled, Image.BILINEAR)
    return whole if scaled == shown else whole.crop(middle(shown, scaled))


def microseconds(images, scaled, shown):
    found = []
    for _ in range(ROUNDS):
        start = time.thread_time()
        for image in images:
            scale(image, scaled, shown)
        found.append(1e6 * (time.thread_time() - start) / len(images))
    return sorted(found)[ROUNDS // 2]


def main():
    whole = [image for image, _ in zip(photographs(sys.argv[1]), range(MOST))]
    if not whole:
        sys.exit(f"{sys.argv[1]}: expected photographs of {SOURCE[0]} x {SOURCE[1]} pixels, found none")
    files, times = [], []
    for index, (size, scaled, shown) in enumerate(CASES):
        images = [image.crop(middle(size, SOURCE)) for image in whole]
        file = Path(sys.argv[2]) / f"{index}.bin"
        with file.open("wb") as out:
            out.write(struct.pack("<7i", len(images), *size, *scaled, *shown))
            for image in images:
                out.write(numpy.asarray(image).tobytes())
            for image in images:
                out.write(numpy.asarray(scale(image, scaled, shown)).tobytes())
        files.append(str(file))
        times.append(microseconds(images, scaled, shown))
    print(json.dumps({"pillow": Image.__version__, "images": len(whole), "files": files, "microseconds": times}))


if __name__ == "__main__":
    main()
