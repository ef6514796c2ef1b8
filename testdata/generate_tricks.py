"""Make pickles and archives that hide a call from scanners, and ask the loaders which of them reach it.

usage: python3 generate_tricks.py [DIR]     (torch 2.15, numpy 2.4, joblib 1.6; default: tricks/ beside it)

The call is `posix.getpid()`, which harms nobody; here it is replaced by a function that notes that it was called.
`expected.json` maps each file to the loaders that came to it: `pickle` (C), `python` (Lib/pickle.py), `torch`, `numpy`,
`joblib`, `zipfile` (with `pickle`, every member). Files without a call (`benign_*`) must come to nothing.
"""
import bz2
import io
import json
import lzma
import os
import pickle
import posix
import struct
import sys
import tarfile
import warnings
import zipfile
import zlib

import joblib
import numpy
import torch

OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "tricks")
CALL = b"cposix\ngetpid\n)R."
BENIGN = b"\x80\x02}q\x00."
LFB = b"ctorch.storage\n_load_from_bytes\n"
NESTED = b"B" + struct.pack("<I", len(b"\x80\x02" + CALL)) + b"\x80\x02" + CALL
FILES = {}
warnings.simplefilter("ignore")


def stream(name, head, call=CALL):
    FILES[name + ".pkl"] = head + call


def numbers():
    for name, line in [
        ("hex", b"I0x10"), ("octal", b"I0o17"), ("binary", b"I0b1"), ("underscore", b"I1_0"), ("blanks", b"I \t7 \x0b"),
        ("plus", b"I+7"), ("nul", b"I5\0junk"), ("long_hex", b"L0x10L"), ("huge_hex", b"I0x" + b"f" * 40),
        ("float_underscore", b"F1_0.5"), ("float_inf", b"Finfinity"), ("float_exponent", b"F1e5"),
    ]:
        stream("number_" + name, line + b"\n0")
    for name, index in [("plus", b"+5"), ("underscore", b"1_0"), ("blanks", b" 3 "), ("zeros", b"007")]:
        stream("memo_" + name, b"S'x'\np" + index + b"\n0g" + index + b"\n0")


def states():
    for name, head in [
        ("none_build_none", b"NNb0"), ("int_build_none", b"K\x01Nb0"), ("tuple_build_none", b")Nb0"),
        ("none_build_empty_dict", b"N}b0"), ("int_build_empty_tuple", b"K\x01)b0"), ("str_build_false", b"U\x01a\x89b0"),
        ("int_build_pair", b"K\x01NN\x86b0"), ("none_appends", b"N(e0"), ("int_setitems", b"K\x01(u0"),
        ("none_additems", b"\x80\x04N(\x900"), ("list_setitem", b"]NaK\x00Ns0"), ("bytearray_appends", b"\x80\x05\x96" + b"\0" * 8 + b"(K\x01e0"),
    ]:
        stream(name, head)
    FILES["reduce_list.pkl"] = b"cposix\ngetpid\n]R."
    FILES["reduce_dict.pkl"] = b"cposix\ngetpid\n}R."
    FILES["reduce_string.pkl"] = b"cposix\ngetpid\nU\x00R."
    FILES["frame_beyond.pkl"] = b"\x80\x04\x95" + struct.pack("<Q", 10**6) + CALL
    FILES["names_by_global.pkl"] = b"\x80\x04crandom\n_os.name\n\x8c\x06getpid\x93)R."
    FILES["inst.pkl"] = b"(iposix\ngetpid\n."
    FILES["obj.pkl"] = b"(cposix\ngetpid\no."


def loaders_handed_on():
    namespace = b"cargparse\nNamespace\n)\x81}"
    FILES["setstate_attribute.pkl"] = b"\x80\x03" + namespace + b"U\x0c__setstate__" + LFB + b"sb" + NESTED + b"b."
    FILES["append_attribute.pkl"] = b"\x80\x03ctorch.nn.modules.module\nModule\n)\x81}U\x06append" + LFB + b"sb" + NESTED + b"a."
    FILES["rebuild_from_type.pkl"] = b"\x80\x03ctorch._tensor\n_rebuild_from_type\n(" + LFB + b"ctorch\nTensor\n" + NESTED + b"\x85}tR."
    FILES["lfb_inst.pkl"] = b"\x80\x03(" + NESTED + b"itorch.storage\n_load_from_bytes\n."
    FILES["lfb_reduce.pkl"] = b"\x80\x03" + LFB + NESTED + b"\x85R."
    FILES["lfb_partial.pkl"] = b"\x80\x03cfunctools\npartial\n" + LFB + NESTED + b"\x86R)R."
    FILES["lfb_computed.pkl"] = b"\x80\x03" + LFB + b"cbuiltins\nbytes\n" + NESTED + b"\x85R\x85R."
    FILES["partial_setstate.pkl"] = b"\x80\x02cfunctools\npartial\nccollections\nOrderedDict\n\x85R(cposix\ngetpid\n)}}tb)R."
    FILES["reexport_dotted.pkl"] = b"\x80\x04\x8c\x06random\x8c\x0a_os.getpid\x93)R."
    FILES["reexport_getattr.pkl"] = b"\x80\x04\x8c\x06random\x8c\x03_os\x93q\0\x8c\x08builtins\x8c\x07getattr\x93h\0\x8c\x06getpid\x86R)R."
    FILES["attrgetter.pkl"] = b"\x80\x04\x8c\x10torch.functional\x8c\x13operator.attrgetter\x93\x8c\x06getpid\x85R\x8c\x06random\x8c\x03_os\x93\x85R)R."


def zip_of(*members, method=zipfile.ZIP_STORED, comment=b""):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        for name, data in members:
            z.writestr(zipfile.ZipInfo(name) if method == 0 else name, data, method)
        z.comment = comment
    return out.getvalue()


def torch_zip(data, name="a/data.pkl", **how):
    return zip_of((name, data), ("a/byteorder", b"little"), ("a/version", b"3\n"), **how)


def moved(archive, by):
    """The same archive as it must be to lie `by` bytes into a file that counts from its own beginning."""
    out, at = bytearray(archive), 0
    while (at := out.find(b"PK\x01\x02", at)) >= 0:
        struct.pack_into("<I", out, at + 42, struct.unpack_from("<I", out, at + 42)[0] + by)
        at += 4
    at = out.rfind(b"PK\x05\x06")
    struct.pack_into("<I", out, at + 16, struct.unpack_from("<I", out, at + 16)[0] + by)
    return bytes(out)


def archives():
    evil, odd = b"\x80\x02" + CALL, b"I0x10\n0" + CALL
    benign = torch_zip(BENIGN)
    FILES["zip_case.pt"] = torch_zip(odd, name="a/DATA.PKL")
    FILES["zip_both_cases.pt"] = zip_of(("a/DATA.PKL", odd), ("a/data.pkl", BENIGN), ("a/version", b"3\n"))
    FILES["zip_in_a_row.pt"] = benign + torch_zip(evil)
    FILES["zip_in_a_row_absolute.pt"] = benign + moved(torch_zip(evil), len(benign))
    for name, inner in [("relative", torch_zip(evil)), ("absolute", moved(torch_zip(evil), len(benign)))]:
        FILES[f"zip_in_comment_{name}.pt"] = benign[:-2] + struct.pack("<H", len(inner)) + inner
    FILES["zip_other_name.pt"] = zip_of(("a/data.pkl", BENIGN), ("a/extra", odd), ("a/version", b"3\n"))
    FILES["zip_local_size.pt"] = torch_zip(evil).replace(struct.pack("<II", len(evil), len(evil)), struct.pack("<II", 2, 2), 1)
    FILES["npz_bzip2.npz"] = zip_of(("x.npy", npy(b"'|O'", evil)), method=zipfile.ZIP_BZIP2)
    FILES["npz_lzma.npz"] = zip_of(("x.npy", npy(b"'|O'", evil)), method=zipfile.ZIP_LZMA)
    FILES["npz_behind.npz"] = zip_of(("x.npy", npy(b"'<f4'", b"\0\0\0\0"))) + zip_of(("x.npy", npy(b"'|O'", evil)))
    # BINBYTES of 16 bytes, which end in a key; then UNICODE up to the first newline, behind the header
    data = b"\n00" + CALL
    text = b'{"aaaaaaaaaaaV": {"dtype": "U8", "shape": [%d], "data_offsets": [0, %d]}}' % (len(data), len(data))
    FILES["safetensors_and_pickle.safetensors"] = b"B\x10" + b"\0" * 6 + text.ljust(0x1042) + data
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as t:
        t.addfile(tarfile.TarInfo(CALL.decode()))
    FILES["tar_and_pickle.tar"] = out.getvalue()[:1536]
    FILES["bzip2.pkl"] = bz2.compress(odd)
    FILES["xz.pkl"] = lzma.compress(odd)
    FILES["zlib.pkl"] = zlib.compress(odd, 0)


def npy(descr, data, head=b"{'descr': %s, 'fortran_order': False, 'shape': (1,)}", version=1):
    text = head % descr if b"%s" in head else head
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


def arrays():
    evil = b"\x80\x02" + CALL
    for name, descr in [
        ("u", b"u'|O'"), ("raw", b"r'O'"), ("escape", b"'\\x4f'"), ("object", b"'object'"), ("joined", b"'|' 'O'"),
        ("object_size", b"'O8'"), ("braces", b"[('a', 'O')]"),
    ]:
        FILES[f"npy_{name}.npy"] = npy(descr, evil)
    FILES["npy_key_twice.npy"] = npy(b"'O'", evil, b"{'descr': '<f4', 'descr': %s, 'fortran_order': False, 'shape': (1,)}")
    FILES["npy_shape_hex.npy"] = npy(b"'O'", evil, b"{'descr': %s, 'fortran_order': False, 'shape': (0x1,)}")
    FILES["npy_version_2.npy"] = npy(b"'O'", evil, version=2)


def benign():
    FILES["benign_partial.pkl"] = b"\x80\x02cfunctools\npartial\nctorch.nn.modules.linear\nLinear\n\x85R(ctorch.nn.modules.linear\nLinear\n)}U\x01aK\x01s}tb."
    FILES["benign_itemgetter.pkl"] = b"\x80\x02coperator\nitemgetter\nK\x00\x85R."
    FILES["benign_getattr.pkl"] = b"\x80\x02c__builtin__\ngetattr\nctorch.nn.modules.linear\nLinear\nU\x07forward\x86R."
    FILES["benign_gelu.pkl"] = b"\x80\x02]ctorch._C._nn\ngelu\nactorch\ntanh\na."
    FILES["benign_signature.pkl"] = b"\x80\x02]cinspect\nSignature\na."


class Reached(Exception):
    pass


def reached(load, data):
    calls = []

    def getpid(*_):
        calls.append(1)
        raise Reached  # what would follow does not matter

    real, posix.getpid, os.getpid = posix.getpid, getpid, getpid
    try:
        load(data)
    except BaseException:
        pass
    finally:
        posix.getpid = os.getpid = real
    return bool(calls)


def numpy_load(data):
    loaded = numpy.load(io.BytesIO(data), allow_pickle=True)
    for name in getattr(loaded, "files", []):
        loaded[name]


def unzip_load(data):
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        for info in z.infolist():
            try:
                pickle.loads(z.read(info))
            except (pickle.UnpicklingError, EOFError):
                pass


LOADERS = {
    "pickle": lambda data: pickle.loads(data),
    "python": lambda data: pickle._Unpickler(io.BytesIO(data)).load(),
    "torch": lambda data: torch.load(io.BytesIO(data), weights_only=False),
    "zipfile": unzip_load,
    "numpy": numpy_load,
    "joblib": lambda data: joblib.load(io.BytesIO(data)),
}


def main():
    for part in (numbers, states, loaders_handed_on, archives, arrays, benign):
        part()
    os.makedirs(OUT, exist_ok=True)
    expected = {}
    for name, data in sorted(FILES.items()):
        with open(os.path.join(OUT, name), "wb") as f:
            f.write(data)
        expected[name] = [loader for loader, load in LOADERS.items() if reached(load, data)]
        if bool(expected[name]) == name.startswith("benign_"):
            print(f"{name}: {expected[name]}", file=sys.stderr)
    with open(os.path.join(OUT, "expected.json"), "w", encoding="ascii", newline="\n") as f:
        json.dump(expected, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
