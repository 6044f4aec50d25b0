"""Every exception a user can meet.

Each message says what was seen, what was expected, and what to do. Each docstring holds an example that fails, and
the fix.
"""
from __future__ import annotations

from typing import Iterable, Optional

__all__ = [
    'RecursiveGluonError', 'StructureError', 'TreeFormatError', 'EmptyForestError', 'CycleError', 'ArityError',
    'FieldError', 'UnknownTokenError', 'IndexRangeError', 'VectorsError',
    'TraceError', 'NoBaseCaseError', 'UnseenPath', 'DepthLimitError', 'PathMismatchError', 'VisitError',
    'MissingParamsError', 'MaxNodesError',
    'SecondOrderError', 'LanesError', 'ProgramFormatError', 'ProgramVersionError', 'VerificationError',
    'NativeCoreError', 'NativeCoreWarning', 'ConversionError',
]


class RecursiveGluonError(Exception):
    """The base of all exceptions that this package raises on purpose.

    ``except RecursiveGluonError`` catches them all; each one also derives from the built-in exception nearest to it
    (``ValueError``, ``KeyError``, ...), so that code which knows nothing of this package can catch it too.
    """


class StructureError(RecursiveGluonError, ValueError):
    """An array that should hold the structure of a forest does not.

    Examples
    --------
    The first array of a forest carries the structure; a call that drops or alters it fails::

        Forest.from_arrays(forest[1:])             # the structure is missing

    Hand on the arrays of the forest unchanged and in order::

        Forest.from_arrays(list(forest))
    """


class TreeFormatError(RecursiveGluonError, ValueError):
    """The text of a tree is not well formed.

    Parameters
    ----------
    expected, got : str
        What the format asks for at this place, and what is there.
    hint : str
        What to do.
    path : str, default '<text>'
        The file.
    line, column : int, default 1
        The place in it, both counted from 1; a column counts characters.

    Examples
    --------
    One bracket is missing::

        Tree.from_ptb("(3 (2 It) (4 works)")
        # <text>:1:20: expected ')' or '(', got the end of the line. ...

    Close every bracket that was opened::

        Tree.from_ptb("(3 (2 It) (4 works))")
    """

    def __init__(self, expected: str, got: str, hint: str = '', path: str = '<text>', line: int = 1,
                 column: int = 1) -> None:
        self.expected, self.got, self.hint = expected, got, hint
        self.path, self.line, self.column = path, line, column
        message = f'{path}:{line}:{column}: expected {expected}, got {got}.'
        super().__init__(f'{message} {hint}' if hint else message)

    def __reduce__(self) -> tuple:
        return type(self), (self.expected, self.got, self.hint, self.path, self.line, self.column)


class EmptyForestError(RecursiveGluonError, ValueError):
    """A forest was asked for without a tree.

    Examples
    --------
    A filter left nothing::

        Forest([tree for tree in trees if len(tree) > 1000])

    Skip such a batch::

        batch = [tree for tree in trees if len(tree) > 1000]
        if batch:
            forest = Forest(batch)
    """


class CycleError(RecursiveGluonError, ValueError):
    """Following the children of a node leads back to that node.

    Examples
    --------
    A pointer to the parent is an attribute like any other, so the walk goes up again::

        class Node:
            def __init__(self, parent=None, left=None): ...
        Tree.from_object(root)                         # root.left.parent leads back to root

    Say which attributes are no children::

        Tree.from_object(root, ignore=('parent',))
    """


class ArityError(RecursiveGluonError, ValueError):
    """A node does not have the children that it should have.

    Examples
    --------
    Objects with two lists of children have no single order of children::

        class Call:
            def __init__(self, arguments, keywords): ...
        Tree.from_object(call)

    Leave one of them out, or join them in one attribute::

        Tree.from_object(call, ignore=('keywords',))
    """


class FieldError(RecursiveGluonError, KeyError):
    """A field is missing, or its values do not fit together.

    Examples
    --------
    A name was misspelt::

        forest['lable']
        # no field 'lable'; the fields are: label, word. ...

    Use one of the names that the message lists::

        forest['label']
    """

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0]) if self.args else ''

    @classmethod
    def unknown(cls, name: object, names: Iterable[str], where: str = '') -> 'FieldError':
        """The error for a field that is not there, with the names that are."""
        known = ', '.join(names) or '(none)'
        return cls(f'{where}no field {name!r}; the fields are: {known}. Use one of these names, or give every '
                   'tree this field')


class UnknownTokenError(RecursiveGluonError, KeyError):
    """A mapping from tokens to numbers has no entry for a token.

    Examples
    --------
    A plain ``dict`` knows only what was put in::

        Forest(trees, vocab={'good': 0, 'bad': 1})

    A `Vocab` has an entry for unknown tokens::

        Forest(trees, vocab=Vocab.from_trees(trees))
    """

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0]) if self.args else ''


class IndexRangeError(RecursiveGluonError, IndexError):
    """A label or a word's number lies outside the range it indexes.

    Examples
    --------
    A vocabulary of 100 tokens has no token 100::

        vocab.to_tokens(len(vocab))

    Numbers run from 0 to ``len(vocab) - 1``::

        vocab.to_tokens(len(vocab) - 1)
    """


class VectorsError(RecursiveGluonError, ValueError):
    """A file of word vectors is not well formed.

    Parameters
    ----------
    message : str
        What was seen and expected, and what to do.
    path : str
        The file.
    line : int, optional
        The line in it, counted from 1.

    Examples
    --------
    A line holds another number of values than the lines before it::

        load_vectors('glove.txt', vocab)
        # glove.txt:17: expected 50 numbers after the token, got 49. ...

    The file is cut short or joins two sets of vectors: fetch it again, or remove the line.
    """

    def __init__(self, message: str, path: str = '<text>', line: Optional[int] = None) -> None:
        self.message, self.path, self.line = message, path, line
        place = path if line is None else f'{path}:{line}'
        super().__init__(f'{place}: {message}')

    def __reduce__(self) -> tuple:
        return type(self), (self.message, self.path, self.line)


class TraceError(RecursiveGluonError, TypeError):
    """A body does something that a traced body cannot do.

    Examples
    --------
    A traced tensor has no value yet::

        if h.asscalar() > 0: ...

    Compare the tensor itself; the comparison becomes a decision of the Program::

        if h > 0: ...
    """


class NoBaseCaseError(TraceError):
    """Every path through a body calls the body again, so that it could never end.

    Examples
    --------
    ::

        def hybrid_forward(self, F, node):
            return self.cell(self(node.left), self(node.right))

    Give it a path that returns without calling itself::

            if node.is_leaf:
                return self.leaf(node['word'])
    """


class UnseenPath(RecursiveGluonError, RuntimeError):
    """The data takes a path through the body that was never traced, and the body's source is not at hand.

    Examples
    --------
    ``len(node.children)`` decides by exact number, and only the numbers met before ``export()`` are in the file::

        SymbolBlock.imports('net-symbol.json', ...)(*forest_with_an_arity_of_7)

    Call the net on such data once before ``export()``, or compare ``node.arity``, or loop over ``node.children``.
    """


class DepthLimitError(RecursiveGluonError, RecursionError):
    """Calls are nested deeper than the limit: most often a base case that never comes.

    Examples
    --------
    The counter passes zero and never meets it again::

        def hybrid_forward(self, F, x, n):
            return x if n == 0 else self(x, n - 2)     # called with an odd n

    Write ``n <= 0``; or raise the limit where the depth is meant: ``net.hybridize(max_depth=10**6)``.
    """


class PathMismatchError(RecursiveGluonError, ValueError):
    """Two paths of a body return different numbers or shapes of outputs.

    Examples
    --------
    ::

        if node.is_leaf:
            return self.embed(node['word'])            # one output
        return self.cell(...)                          # two outputs: h, c

    Return the same number of tensors of the same shape on every path.
    """


class VisitError(RecursiveGluonError, ValueError):
    """``nodes=True`` asks for one value a node, but a node was visited not once.

    Examples
    --------
    A body that never visits the right children has no value for them::

        net(forest, nodes=True)

    Visit every node exactly once, or ask for the roots alone: ``net(forest)``.
    """


class MissingParamsError(RecursiveGluonError, ValueError):
    """An exported net was loaded without its parameters.

    Examples
    --------
    ::

        block = rg.import_block('net-symbol.json')      # and net-0000.params?

    Give the file that ``export()`` wrote beside the symbol: ``rg.import_block('net-symbol.json', 'net-0000.params')``.
    """


class MaxNodesError(RecursiveGluonError, ValueError):
    """A structure grown during the run has more nodes than was declared.

    Examples
    --------
    ::

        net(forest, nodes=True, max_nodes=15)           # a tree grew to 31 nodes

    Declare a larger ``max_nodes``, or pass a depth down and stop at it.
    """


class SecondOrderError(RecursiveGluonError, NotImplementedError):
    """A net that was hybridized with ``second_order=True`` holds something that has no second-order gradient.

    Examples
    --------
    An operator of the body has no rule, or MXNet's gradient of it is not its derivative::

        net.hybridize(second_order=True)
        with autograd.record():
            out = net(forest)        # model.py:17: LeakyReLU has no second-order gradient (...)

    Write it with operators that have one, or leave the flag out where first-order gradients are enough::

        net.hybridize()
    """


class LanesError(RecursiveGluonError, ValueError):
    """``hybridize(lanes=...)`` was asked for with a number that there is not, or with what lanes cannot do.

    Examples
    --------
    Runs on lanes keep all rows for the gradient::

        net.hybridize(lanes=2, recompute=True)

    Leave one of them out; ``lanes=0`` goes back to the workers::

        net.hybridize(lanes=0, recompute=True)
    """


class ProgramFormatError(RecursiveGluonError, ValueError):
    """The text of a Program is cut short, altered, or something else.

    Examples
    --------
    A download broke off::

        program.from_json(text[:1000])
        # the text of a Program is cut short or damaged (1000 characters; ...

    Fetch the file again, or export the net again; a Program's text is not for editing by hand::

        program.from_json(text)
    """


class ProgramVersionError(ProgramFormatError):
    """The text of a Program is of a version that this package does not read.

    Examples
    --------
    The net was exported on a machine with a newer package::

        rg.import_block('net-symbol.json', 'net-0000.params')
        # the Program has version 2, written by a newer recursive_gluon; this one reads version 1: ...

    Upgrade this package, or export the net with the version that will read it.
    """


class VerificationError(RecursiveGluonError, ValueError):
    """A Program is not well formed: the message says in which function, block and node.

    Examples
    --------
    A pass over Programs removed a node whose value is still used::

        verify(Program({'f': Function('f', 0, (), 1, Block((), Return(('%0',))))}, 'f', (), 1))
        # function 'f', body, end (`return %0`): '%0' is not defined. ...

    Keep the node, or remove its uses too; call ``verify()`` after every pass to see which one it was.
    """


class NativeCoreError(RecursiveGluonError, RuntimeError):
    """The native core could not do what was asked: memory ran out, or MXNet's interface refused.

    Examples
    --------
    A forest of more rows than there is memory for::

        net(forest)        # native core: no memory for 412316860416 bytes ...

    Use smaller batches, or ``hybridize(recompute=True)`` or ``recompute=256``, which keep less for the gradient.
    """


class NativeCoreWarning(UserWarning):
    """The native core is not there; everything runs on the mxnet executor.

    Examples
    --------
    On a machine without g++ the first call warns once. Install a compiler, or say that this is meant::

        RECURSIVE_GLUON_NATIVE=0 python train.py
    """


class ConversionError(RecursiveGluonError, TypeError):
    """Something cannot be converted, or was not.

    Examples
    --------
    A net's output is no program::

        rg.hybridize(net(x))

    The net is::

        rg.hybridize(net)
    """
