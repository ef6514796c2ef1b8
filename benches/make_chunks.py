#!/usr/bin/env python3
"""A directory of torch.distributed.checkpoint with very many chunks, for the figures in README.md. Needs torch.

  make_chunks.py OUT [CHUNKS [FILES]]   CHUNKS chunks (50,000) of 16 elements, 100 of them to a tensor, in FILES files (16); about 1.4 KB each
"""
import io
import os
import pickle
import sys

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties, TensorStorageMetadata)

FILES = int(sys.argv[3]) if len(sys.argv) > 3 else 16
CHUNKS_OF_A_TENSOR = 100
ROWS = 4  # of 4 elements: a chunk


def main():
    out = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 50_000
    os.makedirs(out, exist_ok=True)
    names = ["__%d_0.distcp" % rank for rank in range(FILES)]
    files = [open(os.path.join(out, name), "wb") for name in names]
    described, stored = {}, {}
    for first in range(0, count, CHUNKS_OF_A_TENSOR):
        chunks = min(CHUNKS_OF_A_TENSOR, count - first)
        fqn = "layers.%d.weight" % (first // CHUNKS_OF_A_TENSOR)
        boxes = []
        for number in range(chunks):
            rank = (first + number) % FILES
            offset = torch.Size([number * ROWS, 0])
            boxes.append(ChunkStorageMetadata(offsets=offset, sizes=torch.Size([ROWS, 4])))
            data = io.BytesIO()
            torch.save(torch.arange(16, dtype=torch.float32).reshape(ROWS, 4) + (first + number) * 16, data)
            begin = files[rank].tell()
            files[rank].write(data.getbuffer())
            stored[MetadataIndex(fqn, offset)] = _StorageInfo(names[rank], begin, files[rank].tell() - begin)
        described[fqn] = TensorStorageMetadata(
            properties=TensorProperties(dtype=torch.float32), size=torch.Size([chunks * ROWS, 4]), chunks=boxes)
    for file in files:
        file.close()
    with open(os.path.join(out, ".metadata"), "wb") as index:
        pickle.dump(Metadata(state_dict_metadata=described, storage_data=stored), index)


main()
