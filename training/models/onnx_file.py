"""A network as one ONNX file, by PyTorch and the package onnx alone, as a GPU machine has them."""

from __future__ import annotations

import io
import warnings
from typing import Final

import torch
from torch import Tensor, nn

OPSET: Final = 17
_TENSORS: Final = ("vector", "sequence", "raw_score")


def onnx_file(network: nn.Module, vector: Tensor, sequence: Tensor) -> bytes:
    """Return the network as ONNX with an open batch.

    Args:
        network: Of raw vectors and raw sequences.
        vector: float32 [B, F], any two rows.
        sequence: float32 [B, T, C] of them.
    """
    network.eval()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter warns that LSTMs with a batch are fixed to it; its users check that not.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (vector, sequence),
            buffer,  # type: ignore[arg-type]  # the tracing exporter writes to any file
            input_names=list(_TENSORS[:2]),
            output_names=list(_TENSORS[2:]),
            dynamic_axes={name: {0: "batch"} for name in _TENSORS},
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()
