"""Parts of pickles, as torch.save writes them, and as somebody with other intentions might."""

import struct

PROTO = b"\x80\x02"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def name(module: str, function: str) -> bytes:
    return f"c{module}\n{function}\n".encode()


STORAGE = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x0ctQ"


REBUILD = name("torch._utils", "_rebuild_tensor_v2")


HOOKS = name("collections", "OrderedDict") + b")R"


def tensor(shape: bytes = b"K\x03K\x04\x86", strides: bytes = b"K\x04K\x01\x86", offset: bytes = b"K\x00") -> bytes:
    return REBUILD + b"(" + STORAGE + offset + shape + strides + b"\x89" + HOOKS + b"tR"
