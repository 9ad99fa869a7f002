"""The one error of the format, and its codes, which are part of the format's interface."""

from __future__ import annotations

from amc_plugins.exporting import AmcError

__all__ = ["CODES", "VnModelError"]

CODES: dict[str, str] = {
    # container
    "FILE": "the path cannot be read, or is no regular file",
    "TRUNCATED_HEADER": "fewer than 64 bytes",
    "BAD_MAGIC": "not a .vnmodel",
    "BAD_MAGIC_TEXTMODE": "a .vnmodel that was transferred as text",
    "VERSION_UNSUPPORTED": "a major version this reader does not know",
    "HEADER_CRC": "the header is damaged",
    "FLAG_UNKNOWN": "a flag that must be understood is not",
    "RESERVED_NONZERO": "reserved header bytes are set",
    "TRUNCATED": "the file is shorter than its header says",
    "TRAILING_BYTES": "the file is longer than its header says",
    "GRAPH_TOO_BIG": "the graph is longer than the reader's limit",
    "GRAPH_RANGE": "the graph does not end inside the file",
    "DATA_MISALIGNED": "the data does not start at a multiple of 64",
    "DATA_RANGE": "the data does not lie between the graph and the end of the file",
    "GRAPH_CRC": "the graph is damaged",
    "TENSOR_CRC": "a tensor's bytes are damaged",
    "PADDING_NONZERO": "bytes between the parts are not zero",
    # JSON
    "BAD_UTF8": "the graph is not UTF-8",
    "JSON_START": "the graph is not a JSON object",
    "JSON_SYNTAX": "the graph is not JSON",
    "JSON_DEPTH": "nested deeper than the limit",
    "JSON_TOO_MANY": "more items than the limit",
    "JSON_DUP_KEY": "a key occurs twice in an object",
    "NUMBER_NONFINITE": "NaN or an infinity as a literal",
    "INT_RANGE": "an integer outside 64 bits",
    "BAD_CHAR": "a lone surrogate in a text",
    # schema
    "FORMAT": "`format` or the document's version is not one this reader knows",
    "SCHEMA_TYPE": "a field has the wrong JSON type",
    "SCHEMA_MISSING": "a field is missing",
    "SCHEMA_UNKNOWN": "a field that this version does not have",
    "MODEL_ID": "model_id is not an unsigned 32-bit integer",
    "BASE_SIZE": "model_base_size_hw is neither null nor two sizes from 1 to 2^31-1",
    "METADATA": "metadata is not an object of texts",
    "METADATA_TOO_BIG": "metadata is longer than the limit",
    "NAME_EMPTY": "an empty name",
    "NAME_TOO_LONG": "a name of more than 512 characters",
    "NAME_BAD_CHAR": "a control character in a name",
    "OP_ID": "an op id that is not lower-case words joined by dots",
    "OP_VERSION": "an op version below 1, or above the installed handler's",
    "PARAM_FORM": "a parameter holds something that documents do not: a float form or a reference that is malformed",
    "TREE": "signature or outputs is not a structure of values",
    "TOO_MANY_NODES": "more nodes than the limit",
    "TOO_MANY_TENSORS": "more tensors than the limit",
    # tensor table
    "DTYPE_UNKNOWN": "a dtype that the format does not have",
    "RANK": "more than 8 dimensions",
    "DIM_TYPE": "a dimension is not an integer",
    "DIM_NEGATIVE": "a negative dimension",
    "DIM_TOO_BIG": "a dimension above 2^31-1",
    "DIM_ZERO": "an input dimension of 0",
    "SHAPE_OVERFLOW": "the product of the dimensions does not fit",
    "TENSOR_DUP_NAME": "two tensors have one name",
    "TENSOR_TABLE": "placements and tensors are not the same list of names",
    "TENSOR_NBYTES": "shape and dtype need another number of bytes than the placement has",
    "TENSOR_MISALIGNED": "an offset that is not a multiple of 64",
    "TENSOR_OVERLAP": "a tensor starts before the one before it ends",
    "TENSOR_GAP": "a hole between two tensors",
    "TENSOR_RANGE": "a tensor ends after the data",
    "DATA_UNCLAIMED": "bytes after the last tensor",
    "TENSOR_UNUSED": "no node uses a tensor",
    "QUANT_SCHEME": "a form of storage that the format does not have",
    "QUANT_DTYPE": "another form of storage for a tensor that is not f32",
    "QUANT_AXIS": "the axis of the scales is no dimension of the tensor",
    "QUANT_SCALE": "a scale that is negative, infinite or no number",
    "BOOL_VALUE": "a bool tensor holds a byte other than 0 and 1",
    # topology
    "SIGNATURE": "signature and inputs do not name the same values",
    "NODE_DUP_NAME": "two nodes have one name",
    "NODE_NO_OUTPUT": "a node makes nothing",
    "LAYER_CONFLICT": "nodes of one layer differ in op, parameters or tensors",
    "VALUE_DUP": "two nodes make one value, or one makes it twice",
    "VALUE_SHADOWS_INPUT": "a node makes what is an input",
    "CYCLE_OR_ORDER": "a node uses a value that is made later, or by itself",
    "DANGLING_INPUT": "a node uses a value that nothing makes",
    "SLOT_DANGLING": "a node's slot names no tensor",
    "OUTPUT_UNKNOWN": "an output that nothing makes",
    "OUTPUTS_EMPTY": "the network has no outputs",
    # ops (strict opening only)
    "OP_UNKNOWN": "no handler is installed for an op",
    "OP_ARITY": "an op does not take that many inputs",
    "PARAM_MISSING": "a required parameter is missing",
    "PARAM_UNKNOWN": "a parameter that the op does not have",
    "PARAM_TYPE": "a parameter has the wrong type",
    "PARAM_RANGE": "a parameter's value is out of bounds",
    "SLOT_MISMATCH": "tensors are missing, unknown or of the wrong shape for their op",
    "SHAPE_RULE": "an op cannot take inputs of these shapes, dtypes or sizes",
    "ACTIVATIONS_TOO_BIG": "the network would need more memory than the limit",
    # writing
    "NOT_IN_TABLE": "tensors given to the writer are not the document's",
    "BYTE_ORDER": "this machine is not little-endian",
}


class VnModelError(AmcError, ValueError):
    """A `.vnmodel` is refused.

    `code` is a key of `CODES`, `where` the place in the file: the path of a field, a node, a tensor or a byte.
    """

    def __init__(self, code: str, message: str, where: str = "", *, hint: str | None = None) -> None:
        if code not in CODES:
            raise AssertionError(f"{code} is not a code of the format")
        super().__init__(f"{message} [{code}{' at ' + where if where else ''}]", hint=hint)
        self.code = code
        self.message = message
        self.where = where

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, self.message, self.where), {"hint": self.hint}
