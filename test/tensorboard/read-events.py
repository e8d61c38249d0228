"""Prints what TensorBoard reads of a folder's event files, as JSON: read-events.py FOLDER"""
import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

events = EventAccumulator(sys.argv[1], size_guidance={"images": 0, "scalars": 0, "tensors": 0})
events.Reload()
tags = events.Tags()
start = HParamsPluginData.FromString(events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
hparams = {
    name: getattr(value, value.WhichOneof("kind")) for name, value in start.session_start_info.hparams.items()
}
print(
    json.dumps(
        {
            "scalars": {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in tags["scalars"]},
            "images": sum(len(events.Images(tag)) for tag in tags["images"]),
            "hparams": hparams,
        }
    )
)
