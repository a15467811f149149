"""Inference of the plain ViT by ONNX Runtime; export_onnx.py writes its model. usage: onnxruntime_peer.py MODEL THREADS
f32|int8 BATCH; then tasks on standard input"""

import sys

import numpy
import onnxruntime

import turns

path, threads, precision, batch = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(
    path + (".int8.onnx" if precision == "int8" else ".onnx"), settings, providers=["CPUExecutionProvider"]
)
images = numpy.random.default_rng(0).standard_normal((batch, 3, 224, 224), dtype=numpy.float32)


def infer():
    session.run(None, {"x": images})


turns.answer(f"ONNX Runtime {onnxruntime.__version__}", {"infer": infer})
