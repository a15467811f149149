"""Inference of the plain ViT by OpenVINO; export_onnx.py writes its model. What int8 leaves unquantised is bf16. usage:
openvino_peer.py MODEL THREADS f32|bf16|int8 BATCH; then tasks on standard input"""

import sys

import numpy
import openvino

import turns

path, threads, precision, batch = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
core = openvino.Core()
model = core.compile_model(
    core.read_model(path + (".int8.xml" if precision == "int8" else ".onnx")),
    "CPU",
    {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32" if precision == "f32" else "bf16",
        "PERFORMANCE_HINT": "LATENCY",
    },
)
images = numpy.random.default_rng(0).standard_normal((batch, 3, 224, 224), dtype=numpy.float32)


def infer():
    model(images)


turns.answer(f"OpenVINO {openvino.__version__.split('-')[0]}", {"infer": infer})
