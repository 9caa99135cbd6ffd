"""Dense vectors as an Arrow IPC stream."""

from __future__ import annotations

import json

import numpy as np

from nearfield.server.exchange import Encode, EncodeLateChunks

ARROW_TYPE = "application/vnd.apache.arrow.stream"


def write_arrow_stream(exchange: Encode) -> bytes:
    """Return the dense vectors as an Arrow IPC stream: https://arrow.apache.org/docs/format/Columnar.html"""
    import pyarrow as arrow

    vectors = exchange.vectors
    data = np.ascontiguousarray(vectors.data)
    columns = {
        "vector": arrow.FixedSizeListArray.from_arrays(arrow.array(data.reshape(-1)), data.shape[1]),
        "tokens": arrow.array(vectors.tokens, arrow.int64()),
        "dropped": arrow.array(vectors.dropped, arrow.int64()),
        "unknown": arrow.array(vectors.unknown, arrow.int64()),
    }
    if isinstance(exchange, EncodeLateChunks):
        columns["document"] = arrow.array(np.repeat(np.arange(len(exchange.inputs)), list(map(len, exchange.inputs))))
    metadata = {
        "model": exchange.description.name if exchange.description is not None else "",
        "fingerprint": vectors.fingerprint,
        "dtype": vectors.precision,
        "dimensions": str(vectors.dim),
    }
    if vectors.ranges is not None:
        metadata |= {"ranges": json.dumps(vectors.ranges.tolist()), "clipped": str(vectors.clipped)}
    batch = arrow.record_batch(columns).replace_schema_metadata(metadata)
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())
