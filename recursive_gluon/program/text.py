"""A Program as text: readable, stable from run to run, made for `diff`."""
from __future__ import annotations

from typing import Any, Mapping

from .ir import Block, Branch, Field, ForEach, Integer, Invoke, Op, Program, Raise, Random, Return

__all__ = ["to_text", "node_text", "end_text"]


def to_text(program: Program) -> str:
    """The text of `program`: parameters, then each function with its blocks indented by decision."""
    lines = [f"program {program.root} -> {program.num_outputs} outputs"]
    for p in program.params:
        shape = "?" if p.shape is None else "x".join(str(n) if n else "?" for n in p.shape)
        notes = "".join([" state" if p.state else "", " row_sparse" if p.sparse_grad else ""])
        lines.append(f"  param @{p.name}: {p.dtype}[{shape}]{notes}")
    for name in sorted(program.functions, key=lambda n: (n != program.root, n)):
        f = program.functions[name]
        ints = [f"i{k}" for k in range(f.num_ints)]
        lines += ["", f"function {f.name}({', '.join(['node', *ints, *f.args])}) -> {f.num_outputs}:"]
        _block(f.body, 1, lines)
    # A message or an attribute of the user's may break lines; a line of the text is one node all the same.
    return "\n".join(line.replace("\n", "\\n") for line in lines) + "\n"


def _attrs(attrs: Mapping[str, str]) -> list[str]:
    return [f"{k}={attrs[k]}" for k in sorted(attrs)]


def _call(node: Any) -> str:
    ints = [str(i) for i in node.ints]
    if isinstance(node, Invoke):
        return f"invoke {node.function}({', '.join([str(node.node), *ints, *node.args])})"
    inside = ["child", *ints, "position", *node.captures]
    carries = f" carry ({', '.join(node.carries)})" if node.carries else ""
    return f"for each child of {node.node}: {node.function}({', '.join(inside)}){carries}"


def node_text(node: Any) -> str:
    """One node as a line of text."""
    if isinstance(node, Op):
        right = f"{node.op}({', '.join([*node.inputs, *_attrs(node.attrs)])})"
    elif isinstance(node, Field):
        right = f"{node.node}[{node.name!r}]"
    elif isinstance(node, Integer):
        right = f"tensor({node.value})"
    elif isinstance(node, Random):
        inside = [f"shape={node.shape}", *_attrs(node.attrs), f"stream={node.stream}"]
        right = f"random.{node.kind}({', '.join(inside)})"
    elif isinstance(node, (Invoke, ForEach)):
        right = _call(node)
    else:
        right = repr(node)
    return f"{', '.join(node.outputs)} = {right}"


def end_text(end: Any) -> str:
    """The end of a path as a line of text."""
    if isinstance(end, Return):
        return f"return {', '.join(end.values)}".rstrip()
    return f"raise {end.kind}: {end.message}".rstrip()


def _block(block: Block, depth: int, lines: list[str]) -> None:
    pad = "  " * depth
    lines.extend(pad + node_text(n) for n in block.nodes)
    end = block.end
    if isinstance(end, (Return, Raise)):
        lines.append(pad + end_text(end))
    elif isinstance(end, Branch):
        # True, then False; or 0, 1, ...
        for answer in sorted(end.arms, key=lambda a: -a if isinstance(a, bool) else a):
            lines.append(f"{pad}if {end.test} is {answer}:")
            _block(end.arms[answer], depth + 1, lines)
