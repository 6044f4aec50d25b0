"""import_block(): an exported net, without its source."""

from __future__ import annotations

import json
import os
from typing import Any, List, Optional

from mxnet.gluon.block import SymbolBlock

from ._compat import mx
from .data.forest import Forest
from .errors import MissingParamsError, ProgramFormatError
from .program import from_json
from .runtime.invoke_op import OP_TYPE

__all__ = ["ImportedBlock", "import_block"]


class ImportedBlock(SymbolBlock):
    """A SymbolBlock that also takes a Forest where the graph takes the arrays of one.

    Inputs:
        - **forest**: a Forest with the fields that the net was exported with; or its arrays one by one.

    Outputs:
        - as the exported net's.
    """

    def __call__(self, *args: Any) -> Any:
        flat: List[Any] = []
        for arg in args:
            flat.extend(arg if isinstance(arg, Forest) else [arg])
        return super().__call__(*flat)


def import_block(symbol_file: str, param_file: Optional[str] = None, ctx: Any = None) -> ImportedBlock:
    """Load what ``net.export(path)`` wrote; the model's source is not needed.

    Parameters
    ----------
    symbol_file : str
        ``path-symbol.json``.
    param_file : str, optional
        ``path-0000.params``; by default the one with the highest epoch beside the symbol file.
    ctx : Context, optional
        Where the parameters go.

    Returns
    -------
    ImportedBlock

    Raises
    ------
    MissingParamsError
        There is no parameter file, or it lacks parameters.
    ProgramFormatError
        The symbol file, or a Program in it, is cut short or of another version.
    """
    _check_programs(symbol_file)
    symbol = mx.sym.load(symbol_file)
    param_file = param_file or _beside(symbol_file)
    held = {name.partition(":")[2] or name for name in mx.nd.load(param_file)} if param_file else set()
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    inputs = [n for n in symbol.list_arguments() if n not in held and n.startswith("data")]
    missing = [n for n in names if n not in held and n not in inputs]
    if missing:
        seen = f"{param_file} lacks" if param_file else "there is no parameter file beside it; it needs"
        raise MissingParamsError(
            f"{symbol_file}: {seen} {', '.join(missing[:6])}{', ...' * (len(missing) > 6)}; give the "
            f"-NNNN.params file that export() wrote with this symbol file"
        )
    inputs.sort(key=lambda n: int(n[4:] or 0))
    block = ImportedBlock(symbol, [mx.sym.var(n) for n in inputs])
    if param_file:
        block.collect_params().load(param_file, ctx, cast_dtype=True, dtype_source="saved")
    return block


def _check_programs(symbol_file: str) -> None:
    """Read every Program of the file, so that a broken one is refused here and not at the first call."""
    with open(symbol_file, encoding="utf-8") as file:
        try:
            nodes = json.load(file)["nodes"]
        except (ValueError, KeyError) as error:
            raise ProgramFormatError(
                f"{symbol_file} is not a symbol file, or is cut short ({error}); export the net again"
            ) from None
    for node in nodes:
        attrs = node.get("attrs", {})
        if attrs.get("op_type") == OP_TYPE:
            from_json(attrs.get("program", ""))


def _beside(symbol_file: str) -> Optional[str]:
    folder, name = os.path.split(symbol_file)
    prefix = name[: -len("symbol.json")] if name.endswith("symbol.json") else name
    found = sorted(n for n in os.listdir(folder or ".") if n.startswith(prefix) and n.endswith(".params"))
    return os.path.join(folder, found[-1]) if found else None
