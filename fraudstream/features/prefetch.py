"""Ask the processor for a state's bytes before the kernel needs them. It changes no result."""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LINE_BYTES: Final = 64  # of a cache line
AHEAD: Final = 3  # rows: one is too late, since a row takes about as long as memory does
_WRITE, _KEEP, _DATA = 1, 3, 1  # arguments of llvm.prefetch: to be written, stays, no code


def _emit(typing: Any, record: Any, offset: Any) -> Any:
    """Return the type and the code of one prefetch of a record's byte."""
    del typing

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        number = ir.IntType(32)
        begin = builder.bitcast(arguments[0], ir.IntType(8).as_pointer())
        at = builder.gep(begin, [arguments[1]])
        prefetch = builder.module.declare_intrinsic(
            "llvm.prefetch",
            fnty=ir.FunctionType(ir.VoidType(), [at.type, number, number, number]),
        )
        builder.call(prefetch, [at, number(_WRITE), number(_KEEP), number(_DATA)])
        return context.get_dummy_value()

    return types.none(record, offset), generate


# Called from compiled code alone: `prefetch(record, offset)`.
prefetch: Any = intrinsic(_emit)
