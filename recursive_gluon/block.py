"""RecursiveBlock: a HybridBlock whose body may call itself."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np
from mxnet.gluon.block import HybridBlock, _flatten
from mxnet.gluon.parameter import DeferredInitializationError

from ._compat import mx
from .capture.nodes import EagerNode, Layout, Node
from .capture.symbols import current_trace
from .capture.tracer import Body
from .core_calls import CoreCalls, number_of_lanes, pick
from .data.forest import Forest, latest_layout
from .data.tree import Tree
from .eager import EagerRun, current_run
from .errors import EmptyForestError, SecondOrderError, TraceError
from .program import Program
from .program.infer import infer
from .program.ir import Param
from .runtime.executor import NODES, ROOTS, Call
from .runtime.invoke_op import EXECUTORS
from .runtime.recipes import row_type
from .runtime.schedules import prepare
from .schedule.faults import Unseen
from .source import Source
from .structure import Structure, pack

__all__ = ["RecursiveBlock"]


class RecursiveBlock(HybridBlock):
    """A block whose ``hybrid_forward`` is written for one node and may call ``self`` on other nodes.

    Subclass it as you subclass ``HybridBlock``. Before ``hybridize()`` the body runs as plain Python recursion; after
    it, the body is traced once per path, and a call runs as one InvokeOp over all frames of all trees.

    Parameters
    ----------
    prefix, params
        As for every Gluon block.

    Inputs:
        - **forest**: a :class:`~recursive_gluon.Forest`, a list of trees, one tree or object, or the list of a
          Forest's arrays (as an outer HybridBlock hands it on). A body without a node takes tensors and integers only.
        - **args**: tensors with a row for every tree, or Python integers, passed to the roots.

    Outputs:
        - what the body returns, with a row for every tree; with ``nodes=True`` a row for every node in the forest's
          order; with ``max_nodes=n`` an array (num_trees, n, ...) of the values of all calls in depth-first order,
          padded with zeros, and the number of calls of each tree. With ``only=i``, of several outputs the i-th alone:
          what nobody asked for is not copied, and has no gradient.

    Examples
    --------
    >>> class Depth(RecursiveBlock):
    ...     def hybrid_forward(self, F, node):
    ...         if node.is_leaf:
    ...             return node['value']
    ...         return F.maximum(self(node.left), self(node.right))

    References
    ----------
    Jeong et al., "Improving the Expressiveness of Deep Learning Frameworks with Recursion", EuroSys 2018.
    """

    def __init__(self, prefix: Optional[str] = None, params=None):
        super().__init__(prefix=prefix, params=params)
        self._executor, self._max_depth, self._second_order, self._lanes = "auto", 10_000, False, 0
        self._recompute: Union[bool, int] = False
        self._core = CoreCalls(self)
        self._sources: Dict[Any, "Source"] = {}
        self._graphs: Dict[Any, tuple] = {}
        self._layout: Optional[Layout] = None
        self._cached_graph: tuple = ()

    # -- what users of HybridBlock know --------------------
    def hybrid_forward(self, F, node, *args, **kwargs):
        """Override with the computation for one node. `F` is ``mx.nd`` or ``mx.sym``; parameters come by name."""
        raise NotImplementedError("a RecursiveBlock needs hybrid_forward(self, F, node, ...)")

    def hybridize(
        self,
        active: bool = True,
        executor: Optional[str] = None,
        max_depth: Optional[int] = None,
        recompute: Union[bool, int, None] = None,
        second_order: Optional[bool] = None,
        lanes: Optional[int] = None,
        **kwargs,
    ):
        """Run calls as graphs; takes what ``HybridBlock.hybridize`` takes, and

        Parameters
        ----------
        executor : {'auto', 'native', 'mxnet', 'reference'}
            'native' is the C++ core, 'mxnet' batches over frames with MXNet's operators, 'reference' interprets frame
            by frame, to compare with. 'auto', the default, is 'native' where the core can run the program (see
            :func:`~recursive_gluon.explain`) and 'mxnet' elsewhere.
        max_depth : int, default 10,000 or twice the nodes of the forest, whichever is more
            Calls nested deeper raise DepthLimitError.
        recompute : bool or int, default False
            On the core, for the gradient, which is the same but for the order of sums: True keeps only what passes
            between calls, and computes the rest again. A number n >= 1 cuts the forest into sub-trees of at most n
            calls, keeps the outputs where it is cut, and computes a sub-tree again when its gradient is due: memory is
            that of one sub-tree. A body that cannot be cut is computed as with True; :func:`~recursive_gluon.explain`
            says why, and what each choice needs.
        second_order : bool, default False
            Recorded calls have gradients that have gradients: ``autograd.grad(..., create_graph=True)`` may be
            followed by ``backward()``. Such calls run on the core, compute more than others, and give dense gradients
            of embeddings; a body without second order raises SecondOrderError when it is called. Of MXNet's own
            operators few have a second order: a loss that is to be differentiated twice is best written as a
            RecursiveBlock without a node (docs/design/0006).
        lanes : int, default 0
            On the core, calls of the block itself run on so many lanes, queues that wait for one another where they
            must: threads of the processor, streams of a GPU. 0 is the workers, which are faster on a processor; on a
            GPU it is a number chosen by the core. Results are the same for any number of lanes, bit for bit, and
            differ from the workers' by rounding. Not with `recompute` or `second_order`.
        """
        if executor is not None and executor not in EXECUTORS:
            raise ValueError(f"executor={executor!r}; there are: {', '.join(sorted(EXECUTORS))}")
        executor = executor or self._executor
        second_order = self._second_order if second_order is None else bool(second_order)
        if second_order and executor not in ("auto", "native"):
            raise SecondOrderError(
                f"second_order=True needs the native core, and executor={executor!r} was asked for; leave one of them "
                f"out"
            )
        recompute = self._recompute if recompute is None else recompute
        if not isinstance(recompute, int) or (recompute < 1 and recompute is not False):
            raise ValueError(f"recompute={recompute!r}; expected False, True, or a number of calls to compute at once, "
                             f"1 or more")
        self._lanes = number_of_lanes(self._lanes if lanes is None else lanes, executor, recompute, second_order)
        self._executor, self._second_order, self._recompute = executor, second_order, recompute
        if max_depth is not None:
            self._max_depth = max_depth
        super().hybridize(active, **kwargs)

    def _parameters(self) -> list:
        """All parameters, of children too; collected once, because Gluon looks for forgotten blocks each time."""
        if self._collected is None:
            self._collected = list(self.collect_params().values())
        return self._collected

    def _clear_cached_op(self):
        super()._clear_cached_op()
        self.__dict__["_collected"] = None
        self.__dict__.setdefault("_graphs", {}).clear()
        self.__dict__.setdefault("_sources", {}).clear()
        self._core.clear()

    def __call__(self, *args, nodes: bool = False, max_nodes: int = 0, only: Optional[int] = None):
        node = args[0] if args and isinstance(args[0], Node) else None
        if current_trace() is not None and not isinstance(node, EagerNode) and not _is_forest_of_symbols(args):
            return current_trace().tracer.call(self._body(), node, args[1:] if node is not None else args)
        if isinstance(node, EagerNode):
            return node._run.call(self, node, args[1:])
        run = current_run()
        if run is not None and not _is_forest(args):
            return run.call(self, None, args)
        self._returns = (NODES if nodes else ROOTS, int(max_nodes), only)
        return super().__call__(*args)

    def forward(self, x, *args):
        """Dispatch a call from outside: symbols, eager, the native core, or the cached graph."""
        returns, max_nodes, only = self.__dict__.pop("_returns", (ROOTS, 0, None))
        if type(x) is Forest and not args:
            outputs = self._core.again(x, returns, max_nodes, only)
            if outputs is not None:
                return outputs
        if _has_symbol((x, *args)):
            return _picked(self._on_symbols(x, args, returns, max_nodes), max_nodes, only)
        forest, arguments, has_node = self._as_forest(x, args)
        layout = _layout_of(forest)
        self._layout = layout
        tensors = [a for a in arguments if isinstance(a, mx.nd.NDArray)]
        with forest.context:
            if not self._active and not max_nodes:
                self._initialize_own(forest, arguments, tensors, has_node, layout)
                result = EagerRun(forest, layout).run(self, has_node, tensors, arguments, returns == NODES)
                return _picked(result, max_nodes, only)
            source = self._source(arguments, has_node, layout)
            self._initialize(source.live.program, forest, tensors)
            if self._executor in ("auto", "native"):
                outputs = self._core.call(source, forest, arguments, returns, max_nodes, only)
                if outputs is not None:
                    return outputs
            if self._executor in ("auto", "mxnet"):
                self._plan_ahead(source, forest, arguments, returns, max_nodes)
            key = self._key(source, forest, arguments, returns, max_nodes)
            return _picked(self._cached_call(key, forest, tensors), max_nodes, only)

    def _key(self, source: "Source", forest: Forest, arguments, returns: str, max_nodes: int) -> tuple:
        """Calls with the same key have the same graph."""
        return (
            source,
            tuple(a for a in arguments if not isinstance(a, mx.nd.NDArray)),
            returns,
            max_nodes,
            self._depth_limit(forest.num_nodes),
            forest.fields,
            source.inputs,
        )

    def export(self, path: str, epoch: int = 0, remove_amp_cast: bool = True):
        """Write ``path-symbol.json`` and ``path-0000.params``; see ``HybridBlock.export``.

        The file holds every path traced so far; a call on data that takes another path raises UnseenPath.
        """
        if self._current is not None:  # calls on the core have left no graph behind
            inputs, out, _ = self._graph_of(self._current)
            params = self.collect_params()
            self._cached_graph = inputs, out
            self._cached_op_args = [(False, params[name]) for name in out.list_inputs() if name in params]
        super().export(path, epoch, remove_amp_cast)

    @property
    def program(self) -> Program:
        """The Program of the last call, as far as it was traced."""
        if not self._sources:
            raise TraceError(f"{self.name} has no Program yet: call hybridize() and then the block once")
        return list(self._sources.values())[-1].live.program

    def _call_for(
        self,
        source: "Source",
        forest: Forest,
        arguments,
        train: bool,
        returns: str = ROOTS,
        max_nodes: int = 0,
        keep: Optional[bool] = None,
    ) -> Call:
        """A call of this block as the executors take it."""
        program, ctx = source.live.program, forest.context
        params = {p.name: p.data(ctx) for p in self._parameters() if p.name in program.by_name}
        tensors = [a for a in arguments if isinstance(a, mx.nd.NDArray)]
        ints = tuple(int(a) for a, kind in zip(arguments, source.kinds) if kind == "int")
        return Call(
            program,
            forest.structure,
            dict(zip(forest.fields, forest[1:])),
            params,
            ctx,
            tensors,
            ints,
            train,
            train if keep is None else keep,
            0,
            returns,
            max_nodes,
            self._depth_limit(forest.num_nodes),
        )

    def _prepare(self, x, args, train: bool, returns: str) -> Tuple["Source", Call]:
        """A call from outside, for those who look at how it runs."""
        forest, arguments, has_node = self._as_forest(x, args)
        source = self._source(arguments, has_node, _layout_of(forest))
        self._initialize(source.live.program, forest, [a for a in arguments if isinstance(a, mx.nd.NDArray)])
        return source, self._call_for(source, forest, arguments, train, returns)

    def _plan_ahead(self, source: "Source", forest: Forest, arguments, returns: str, max_nodes: int) -> None:
        """Plan while the engine works on the step before; data that does not fit the body raises here and now."""
        while True:
            call = self._call_for(source, forest, arguments, mx.autograd.is_training(), returns, max_nodes)
            call.packed = pack(forest.structure).tobytes()
            try:
                prepare(call)
                return
            except Unseen as unseen:
                source.live.update(source.live.extend(source.live.program, unseen))
                self._initialize(source.live.program, forest, call.args)

    # -- bodies --------------------
    def _body(self) -> Body:
        def run(node, arguments):
            return self._run_body(mx.sym, node, arguments)

        return Body(id(self), self.name, run, self._declared_outputs)

    def _run_body(self, F, node, arguments):
        if F is mx.sym:
            params = {name: p.var() for name, p in self._reg_params.items()}
        else:
            params = {name: p.data() for name, p in self._reg_params.items()}
        inputs = arguments if node is None else (node, *arguments)
        return self.hybrid_forward(F, *inputs, **params)

    def _as_forest(self, x, args) -> Tuple[Forest, tuple, bool]:
        """The forest, the arguments for the roots, and whether the body takes a node."""
        if isinstance(x, Forest):
            # What a DataLoader's worker or pinning thread made lies in memory that an operator's other inputs do not.
            shared = x.context.device_type in ("cpu_shared", "cpu_pinned")
            return x.as_in_context(mx.cpu(x.context.device_id)) if shared else x, args, True
        if isinstance(x, (list, tuple)) and x and all(isinstance(a, mx.nd.NDArray) for a in x):
            return Forest.from_arrays(x), args, True
        if isinstance(x, (mx.nd.NDArray, int)) and not isinstance(x, bool):
            return _counting(x, args), (x, *args), False
        if isinstance(x, (list, tuple)) and not len(x):
            raise EmptyForestError(f"{self.name} was called on an empty list; give it at least one tree")
        context = next((p.list_ctx()[0] for p in self._parameters() if p._data is not None), None)
        return Forest(x, ctx=context), args, True

    # -- parameters --------------------
    def _params_of(self) -> List[Param]:
        return [
            Param(
                p.name,
                p.shape if p.shape and all(n > 0 for n in p.shape) else None,
                np.dtype(p.dtype).name,
                p.name in self._state_names(),
                p._grad_stype == "row_sparse",
            )
            for p in self._parameters()
        ]

    def _state_names(self) -> set:
        # Auxiliary states are those without a gradient that batch normalization keeps.
        return {
            p.name
            for p in self._parameters()
            if p.grad_req == "null" and p.name.endswith(("running_mean", "running_var", "moving_mean", "moving_var"))
        }

    def _initialize(self, program: Program, forest: Forest, tensors) -> None:
        waiting = [p for p in self._parameters() if p._deferred_init]
        if not waiting:
            return
        fields = {name: row_type(forest[name]) for name in forest.fields}
        known = {p.name: p.shape for p in self._parameters() if p.shape and all(n > 0 for n in p.shape)}
        types = infer(program, fields, [row_type(t) for t in tensors], known)
        for p in waiting:
            if p.name in types.params:
                p.shape = types.params[p.name]
                p._finish_deferred_init()

    def _initialize_own(self, forest, arguments, tensors, has_node, layout) -> None:
        """Shapes of parameters that the body itself takes: children infer theirs when they run."""
        try:
            for p in self._reg_params.values():
                p.data()
        except DeferredInitializationError:
            self._initialize(self._source(arguments, has_node, layout).live.program, forest, tensors)

    # -- graphs --------------------
    def _source(self, arguments, has_node: bool, layout: Layout) -> "Source":
        kinds = tuple(
            "int"
            if isinstance(a, (int, np.integer)) and not isinstance(a, bool)
            else "tensor"
            if isinstance(a, (mx.nd.NDArray, mx.sym.Symbol))
            else a
            for a in arguments
        )
        key = (has_node, kinds, layout.fields, layout.slots, layout.list_slot)
        if key not in self._sources:
            self._sources[key] = Source(self, kinds, has_node, layout)
        return self._sources[key]

    def _depth_limit(self, num_nodes: int) -> int:
        # Rounded up to a power of two: the limit is an attribute of the graph and should not change with every batch.
        return max(self._max_depth, 1 << (2 * num_nodes).bit_length())

    def _cached_call(self, key, forest: Forest, tensors):
        if key not in self._graphs:
            self._graphs[key] = ((), None, [], None, None)
        self._current = key
        self._load(key)
        inputs = [list(forest), *tensors]
        try:
            return self._call_cached_op(*inputs)
        finally:
            self._graphs[key] = (
                self._cached_graph,
                self._cached_op,
                self._cached_op_args,
                self._in_format,
                self._out_format,
            )

    def _load(self, key) -> None:
        state = self._graphs[key]
        self._cached_graph, self._cached_op, self._cached_op_args, self._in_format, self._out_format = state

    _current: Any = None
    _collected: Optional[list] = None
    #: how many outputs were declared before the body (see SubGraph); None: a base path tells
    _declared_outputs: Optional[int] = None

    def _get_graph(self, *args):
        if not self._cached_graph:
            self._in_format = _flatten(args, "input")[1]
            inputs, out, self._out_format = self._graph_of(self._current)
            self._cached_graph = inputs, out
        return self._cached_graph

    def _graph_of(self, key):
        """Input symbols, output symbol and output format of the graph for `key`."""
        source, constants, returns, max_nodes, depth, fields, _ = key
        inputs = [mx.sym.var(f"data{i}") for i in range(1 + len(fields) + source.num_args)]
        out = source.on_symbols(
            inputs[0],
            inputs[1 : 1 + len(fields)],
            inputs[1 + len(fields) :],
            fields,
            tuple(c for c in constants if isinstance(c, (int, np.integer)) and not isinstance(c, bool)),
            returns,
            max_nodes,
            depth,
        )
        flat, fmt = _flatten(out, "output")
        return inputs, mx.sym.Group(flat) if len(flat) > 1 else flat[0], fmt

    def _on_symbols(self, x, args, returns: str, max_nodes: int):
        """Inside the trace of an outer HybridBlock, or called on ``mx.sym`` variables."""
        if not isinstance(x, (list, tuple)):
            raise TraceError(
                f"{self.name} was called on one Symbol; inside a graph give it the list of a forest's "
                f"symbols: [structure, field, ...]"
            )
        structure, fields = x[0], list(x[1:])
        layout = self._layout or latest_layout(len(fields))
        if layout is None or len(layout.fields) != len(fields):
            raise TraceError(
                f"{self.name} got {len(fields)} fields as symbols, and their names are not known"
                + (f" (last seen: {', '.join(layout.fields)})" if layout is not None else "")
                + "; make or call it on a Forest with these fields first"
            )
        if not isinstance(layout, Layout):
            layout = Layout(layout.fields, layout.slots, layout.list_slot)
        source = self._source(args, True, layout)
        tensors = [a for a in args if isinstance(a, mx.sym.Symbol)]
        ints = tuple(int(a) for a in args if isinstance(a, (int, np.integer)) and not isinstance(a, bool))
        return source.on_symbols(
            structure, fields, tensors, layout.fields, ints, returns, max_nodes, max(self._max_depth, 1 << 17)
        )


def _picked(result: Any, max_nodes: int, only: Optional[int]) -> Any:
    """The output that is asked for, with the counts where there are some."""
    if only is None:
        return result
    return (pick(result[0], only), result[1]) if max_nodes else pick(result, only)


def _layout_of(forest: Forest) -> Layout:
    return Layout(forest.fields, forest.slots, forest.list_slot, getattr(forest, "object_type", None))


def _is_forest(args) -> bool:
    return bool(args) and (
        isinstance(args[0], (Forest, Tree))
        or (isinstance(args[0], (list, tuple)) and bool(args[0]) and isinstance(args[0][0], (mx.nd.NDArray, Tree)))
    )


def _is_forest_of_symbols(args) -> bool:
    return bool(args) and isinstance(args[0], (list, tuple)) and bool(args[0]) and isinstance(args[0][0], mx.sym.Symbol)


def _has_symbol(values) -> bool:
    return any(
        isinstance(v, mx.sym.Symbol) or (isinstance(v, (list, tuple)) and not isinstance(v, Forest) and _has_symbol(v))
        for v in values
    )


def _counting(x, args) -> Forest:
    """A forest for a body without a node: a tree of one node for every row of the first tensor."""
    tensor = next((a for a in (x, *args) if isinstance(a, mx.nd.NDArray)), None)
    rows = 1 if tensor is None else tensor.shape[0]
    context = tensor.context if tensor is not None else mx.current_context()
    number = np.arange(rows, dtype=np.int32)
    structure = Structure(
        np.arange(rows + 1, dtype=np.int32),
        number,
        np.zeros(rows + 1, np.int32),
        np.empty(0, np.int32),
        fields=("index",),
    )
    return Forest._make(
        [mx.nd.array(pack(structure), ctx=context, dtype="int32"), mx.nd.array(number, ctx=context, dtype="int32")],
        structure,
    )
