"""A trained model as an ONNX file, which programs without torch can run.

Only the batch size is left open. Height and width are the model's own, even if it was built with
dynamic_img_size=True, because the file does not resample positions. For another size, build the
model with that img_size and `load_pretrained(..., resize_pos_embed=True)`, then export it.
"""

import contextlib
import copy
import io
import json
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.checkpoints import unwrapped
from vitlib.checkpoints.native import FilePath
from vitlib.files import atomic_write, refuse_non_file
from vitlib.patch import pair

OPSET = 18
TOLERANCE = 1e-5  # relative to the largest output, or to 1 if all are smaller
_MAX_BYTES = 2**31 - 2**20  # protobuf's limit, minus room for what is not weights


def export_onnx(model: nn.Module, path: FilePath) -> float:
    """Write `model` to `path` as ONNX, and return the largest difference from torch's answers.

    The input "images" is float32 (batch, C, H, W), normalised with the model's mean and std. The
    output is "logits" (batch, K), for a distilled model the mean of both heads; a model without a
    head gives "features" (batch, D). The weights are stored in the file, in float32. Its metadata
    contain, as JSON, what is known of the model's "classes", "mean", "std" and "img_size". The
    file has opset 18 and IR version 8.

    Before the file is written, onnxruntime runs it on random batches of 1 and 3 images, and its
    answers are compared with those of torch. `model` itself is not changed.

    Raises ValueError if they differ by more than 1e-5 of the largest answer (or of 1, if all are
    smaller), for a model without img_size or in_chans, for one that cannot be traced or is too
    large for one file, and for a `path` that is not a file; ImportError without the extra `onnx`.
    """
    path = Path(path)
    refuse_non_file(path)
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ImportError(f'exporting needs {", ".join(missing)}: pip install "vitlib[onnx]"')
    inner: Any = unwrapped(model)
    for name in ("img_size", "in_chans"):
        if not hasattr(inner, name):
            raise ValueError(f"a {type(inner).__name__} must have {name} to be exported")
    size = 4 * sum(tensor.numel() for tensor in inner.state_dict().values())
    if size > _MAX_BYTES:
        raise ValueError(f"the weights are {size / 1e9:.1f} GB, and one ONNX file holds up to 2")

    plain = copy.deepcopy(inner).cpu().float().eval()
    shape = (inner.in_chans, *pair(inner.img_size, "img_size"))
    program = _trace(plain, torch.zeros(2, *shape))
    metadata = {"img_size": shape[1:]} | {
        name: getattr(inner, name, None) for name in ("classes", "mean", "std")
    }
    for name, value in metadata.items():
        if value is not None:
            program.metadata_props.add(key=name, value=json.dumps(value))
    _make_portable(program)
    content = program.SerializeToString()
    difference = _compare(plain, content, shape)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return difference


def _trace(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Any:
    """The model as ONNX's ModelProto; what the exporter prints is held back."""
    output = "logits" if getattr(model, "num_classes", 1) else "features"
    chatter = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(chatter),
        contextlib.redirect_stderr(chatter),
    ):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                model, (images,), dynamo=True, external_data=False, opset_version=OPSET,
                input_names=["images"], output_names=[output], verbose=False,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ValueError(f"the model cannot be written as ONNX: {reason}") from error
    assert program is not None
    return program.model_proto


def _make_portable(program: Any) -> None:
    """Give the file the lowest IR version that its operators need (8 for opset 18), and drop what
    older programs do not know or stumble over.

    The exporter lists the weights' shapes a second time, among those of intermediate results.
    onnxruntime's quantize_dynamic transposes weights, and fails on the old shapes. What the
    exporter notes about each node's origin needs IR version 10.
    """
    from onnx.helper import find_min_ir_version_for

    graph = program.graph
    weights = {tensor.name for tensor in graph.initializer}
    shapes = [value for value in graph.value_info if value.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(shapes)
    parts = (graph.node, graph.initializer, graph.value_info, graph.input, graph.output)
    for part in (graph, *(one for several in parts for one in several)):
        del part.metadata_props[:]
    program.ir_version = find_min_ir_version_for(list(program.opset_import), ignore_unknown=True)


def _compare(model: nn.Module, content: bytes, shape: tuple[int, ...]) -> float:
    """The largest difference between onnxruntime's and torch's answers.

    Raises ValueError if it is larger than `TOLERANCE` allows.
    """
    run = _session(content)
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for batch in (1, 3):
        images = torch.randn(batch, *shape, generator=generator)
        with torch.no_grad():
            expected = model(images).numpy()
        found = run(images.numpy())
        difference = float(np.abs(found - expected).max(initial=0.0))
        if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0))):
            raise ValueError(
                f"nothing is written: onnxruntime's answers differ from torch's by "
                f"{difference:.1e}, where they go up to {np.abs(expected).max():.3g}"
            )
        largest = max(largest, difference)
    return largest


def _session(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(None, {"images": images})[0])
