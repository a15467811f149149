"""Writes the plain ViT as the inference engines read it: MODEL.onnx, with weights of ONNX Runtime's dynamic int8
MODEL.int8.onnx, and quantised by NNCF for OpenVINO MODEL.int8.xml; what is there already, or has no tool, is left out.
usage: export_onnx.py ti|b BATCH MODEL"""

import os
import sys
import warnings

import timm
import torch

warnings.filterwarnings("ignore")
size, batch, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
torch.manual_seed(0)
if not os.path.exists(path + ".onnx"):
    model = timm.create_model({"ti": "vit_tiny_patch16_224", "b": "vit_base_patch16_224"}[size], num_classes=100).eval()
    torch.onnx.export(
        model, (torch.randn(batch, 3, 224, 224),), path + ".onnx", dynamo=False, opset_version=17, input_names=["x"]
    )


def onnx_runtime():
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(path + ".onnx", path + ".int8.onnx", weight_type=QuantType.QInt8, per_channel=True)


def openvino():
    import nncf
    import openvino

    samples = nncf.Dataset([torch.randn(batch, 3, 224, 224).numpy() for _ in range(4)], lambda x: {"x": x})
    model = openvino.Core().read_model(path + ".onnx")
    openvino.save_model(
        nncf.quantize(model, samples, model_type=nncf.ModelType.TRANSFORMER, subset_size=4),
        path + ".int8.xml",
        compress_to_fp16=False,
    )


for file, write in ((path + ".int8.onnx", onnx_runtime), (path + ".int8.xml", openvino)):
    if not os.path.exists(file):
        try:
            write()
        except ImportError as error:
            print(f"{file}: {error}", file=sys.stderr)
