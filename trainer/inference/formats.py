"""Names of the export formats and their files below model/.

Imports nothing, so that commands can list the formats at once:

    ", ".join(formats.FILE_NAMES)  # onnx, litert, saved_model
"""

# A format is one line here, one writer in exporting.py and one loader in runtime.py.
# A workdir with several exports is opened by the first one in this order.
FILE_NAMES = {
    "onnx": "model.onnx",
    "litert": "model.tflite",
    "saved_model": "saved_model",  # a folder
}
