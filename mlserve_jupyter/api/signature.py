"""What a version takes and gives: the words that kernel, server and worker share.

Plain frozen dataclasses from the standard library, since a worker reads them in an environment
where nothing else may be installed. ``msgspec`` turns them into JSON and back as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["float", "integer", "boolean", "string", "datetime", "timedelta", "category", "any"]
Container = Literal["dataframe", "series", "ndarray", "sparse", "list"]

MAX_NAMED_FEATURES = 4096
"""Wider arrays have one column that describes all their features, and no names."""


@dataclass(frozen=True)
class Column:
    """One column of the input, as the whole sample shows it.

    Attributes
    ----------
    name
        The name under which JSON and CSV carry it. A column whose label is not a string has the
        label's ``str`` here and the label itself in ``label``.
    kind
        The family of values that JSON brings.
    dtype
        ``str`` of the pandas or numpy dtype from which a worker rebuilds the column exactly, such
        as ``int64``, ``Int64``, ``category`` or ``datetime64[ns, UTC]``.
    nullable
        Whether the sample has missing values here. A nullable column may be left out or null.
    categories
        For ``category`` columns, all categories in order, in their JSON form.
    categories_dtype
        For ``category`` columns, the dtype of the categories.
    ordered
        For ``category`` columns, whether they are ordered.
    minimum, maximum
        The smallest and largest value in the sample, in their JSON form; for information only,
        never enforced.
    label
        The column's own label where it is an integer; None where it is ``name``.
    missing
        Which object stands for a missing value in an ``object`` column: ``None``, ``nan``, ``NA``
        or ``NaT``; None where the dtype knows.
    item
        The type of the items of an ``object`` column where it is not one of JSON's: ``Decimal``,
        ``date``, ``time``, ``datetime``, ``timedelta``, ``Timestamp``, ``Timedelta`` or ``bytes``.
    """

    name: str
    kind: Kind
    dtype: str
    nullable: bool = False
    categories: tuple[Any, ...] | None = None
    categories_dtype: str | None = None
    ordered: bool = False
    minimum: Any = None
    maximum: Any = None
    label: int | None = None
    missing: str | None = None
    item: str | None = None


@dataclass(frozen=True)
class InputSpec:
    """The object that the model's method is called with, and how to rebuild it from JSON.

    Attributes
    ----------
    container
        ``dataframe``: a pandas DataFrame; ``series``: a pandas Series; ``ndarray``: a numpy array;
        ``sparse``: a scipy sparse matrix or array; ``list``: a Python list of arbitrary items.
    shape
        The sample's shape with None for the rows: ``(None, 4)``, ``(None,)``, ``(None, 8, 8)``.
    columns
        One entry a column: of a DataFrame, or a feature of a two-dimensional ndarray or sparse
        input (named by ``feature_names_in_`` where the estimator has it, else ``x0``, ``x1``…).
        A one-dimensional ndarray, a Series and a list have exactly one, which describes the items.
        An ndarray of three or more dimensions has exactly one, which describes its elements, and
        so has a two-dimensional one or a sparse input of more than :data:`MAX_NAMED_FEATURES`.
    dtype
        The dtype of an ndarray or a sparse input; None for the others.
    sparse_class
        For sparse input, the scipy class, such as ``csr_matrix`` or ``csr_array``.
    n_sample_rows
        How many rows the sample had.
    example
        A predict body with one row of the sample, as JSON, for those who want to try it.
    order
        How the numbers lie in memory, ``C`` (row by row) or ``F`` (column by column): sums over
        a row differ in the last bit between the two. Of a DataFrame, that of its largest block.
    """

    container: Container
    shape: tuple[int | None, ...]
    columns: tuple[Column, ...]
    dtype: str | None = None
    sparse_class: str | None = None
    n_sample_rows: int = 0
    example: Any = None
    order: Literal["C", "F"] = "C"


@dataclass(frozen=True)
class OutputSpec:
    """What one method gave on the sample.

    Attributes
    ----------
    container
        ``ndarray``, ``dataframe``, ``series``, ``sparse``, ``list``, ``tuple``, ``dict`` or
        ``scalar``.
    dtype
        ``str`` of the dtype, or the Python type of a scalar; None where there are several.
    shape
        The shape with None for the rows.
    columns
        Column names of a DataFrame.
    parts
        The members of a tuple or list of arrays, such as those of ``kneighbors``; the columns of
        a DataFrame.
    by_row
        Whether the first axis is the rows of the input, so that a batch can be split by it.
    sparse_class
        The scipy class of a sparse output.
    label
        The name of a Series, where it is a string or an integer.
    category
        The categories of a Series of the dtype ``category``, and whether they are ordered.
    keeps_index
        Whether a Series or DataFrame has the index of the input.
    """

    container: str
    dtype: str | None = None
    shape: tuple[int | None, ...] = ()
    columns: tuple[str, ...] | None = None
    parts: tuple[OutputSpec, ...] = ()
    by_row: bool = True
    sparse_class: str | None = None
    label: str | int | None = None
    category: Column | None = None
    keeps_index: bool = False


@dataclass(frozen=True)
class Signature:
    """Input and outputs of a version.

    Attributes
    ----------
    inputs
        What every method takes.
    outputs
        By method name, what it gave on the sample.
    """

    inputs: InputSpec
    outputs: dict[str, OutputSpec] = field(default_factory=dict)


@dataclass(frozen=True)
class Packed:
    """The values of a column, or the elements of a whole array, as they lie in memory.

    Attributes
    ----------
    code
        numpy's code of the numbers in ``data``, in this machine's byte order: ``f8``, ``f4``,
        ``f2``, ``i8``, ``i4``, ``u8``, ``?``…
    data
        Numbers and booleans themselves; of datetimes (in UTC where they have a time zone) and
        timedeltas, how many of the column's units; of categories, their position in
        ``Column.categories``, and -1 where one is missing.
    missing
        One byte a value, 1 where it is missing; None where none is, or where NaN says so.
    order
        How the elements of an array lie, ``C`` (row by row) or ``F`` (column by column).
    """

    code: str
    data: bytes | memoryview
    missing: bytes | memoryview | None = None
    order: Literal["C", "F"] = "C"


@dataclass(frozen=True)
class InputBatch:
    """Decoded and checked input on its way to a worker.

    Attributes
    ----------
    n_rows
        The number of rows.
    columns
        For ``dataframe``, ``series`` and one-dimensional inputs: the ``n_rows`` values of each
        column, in the signature's order. None where ``rows`` is set.
    rows
        For ``ndarray`` and ``sparse`` of two or more dimensions, and for ``list``: ``n_rows``
        items, each a (nested) list, or for ``list`` any value. None where ``columns`` is set. The
        rows of a ``dataframe`` whose columns share one dtype may be here, too, if they are packed.

    Notes
    -----
    A column, and the rows of an array, may be :class:`Packed` instead of a list, which is
    why they are ``Any``.

    Values in lists are what JSON gives (``float``, ``int``, ``bool``, ``str``, ``None``);
    datetimes and timedeltas are ISO 8601 strings, categories their JSON form, and non-finite floats
    are Python floats. A missing value is None.
    """

    n_rows: int
    columns: list[Any] | None = None
    rows: Any = None
