"""Write small files that are broken, hostile or no checkpoint at all, and what a reader should make of each.

usage: python3 generate_hostile.py [OUT_DIR]          (default: hostile/ beside this script)

Standard library only, the same bytes at every run. `expected.json` maps each file to
  why             what is wrong with it
  exit            exit status of `ckpt ls --json FILE`; a list where more than one answer is right
  exit_hash       the same with `--hash`, where it differs: a tensor's problem only counts once its data is asked for
  stderr_contains words that the error has to have, lower case
  stdout_lacks    characters that must never reach the terminal unescaped
Whatever the answer, it has to come within seconds, without a panic, a stack overflow or a large allocation, and nothing
may be executed.
"""
import bz2
import gzip
import io
import json
import os
import pickle
import struct
import sys
import tarfile
import zipfile
import zlib

OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "hostile")
EXPECTED = {}


def put(name, data, why, exit=2, words=(), exit_hash=None, lacks=()):
    path = os.path.join(OUT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    expect(name, why, exit, words, exit_hash, lacks)


def expect(name, why, exit=2, words=(), exit_hash=None, lacks=()):
    entry = {"why": why, "exit": exit, "stderr_contains": list(words)}
    if exit_hash is not None:
        entry["exit_hash"] = exit_hash
    if lacks:
        entry["stdout_lacks"] = list(lacks)
    assert name not in EXPECTED, name
    EXPECTED[name] = entry


# ---- opcodes, by hand

def text(s):
    raw = s if isinstance(s, bytes) else s.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(n):
    if -(1 << 31) <= n < 1 << 31:
        return b"J" + struct.pack("<i", n)
    raw = n.to_bytes((n.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def tup(*items):
    return b"(" + b"".join(items) + b"t"


def ints(values):
    return tup(*[integer(n) for n in values])


def name_of(module, name):
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def storage(key="0", numel=6, cls="FloatStorage", view=None):
    items = [text("storage"), name_of("torch", cls), text(key), text("cpu"), integer(numel)]
    return tup(*(items + ([view] if view else []))) + b"Q"


def tensor(size=(2, 3), stride=(3, 1), offset=0, store=None):
    return (name_of("torch._utils", "_rebuild_tensor_v2")
            + tup(store or storage(), integer(offset), ints(size), ints(stride), b"\x89",
                  name_of("collections", "OrderedDict") + b")R") + b"R")


def dict_of(**items):
    return b"}(" + b"".join(text(k) + v for k, v in items.items()) + b"u"


def pkl(body):
    return b"\x80\x02" + body + b"."


SIX = struct.pack("<6f", *range(6))
STATE = pkl(dict_of(w=tensor()))


# ---- containers

def entry(name):
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


def zipped(members, deflate=()):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in members:
            z.writestr(entry(name), data, zipfile.ZIP_DEFLATED if name in deflate else zipfile.ZIP_STORED, 9)
    return out.getvalue()


def torch_zip(pickled, storages=(("0", SIX),), extra=(), deflate=()):
    members = [("archive/data.pkl", pickled)] + [("archive/data/" + k, v) for k, v in storages]
    return zipped(members + [("archive/version", b"3\n")] + list(extra), deflate)


def legacy(pickled=None, keys=("0",), counts=(6,), data=SIX, sys_info=None, protocol=1001):
    head = [0x1950A86A20F9469CFC6C, protocol,
            sys_info or {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}]
    body = b"".join(pickle.dumps(h, 2) for h in head)
    body += pickled or pkl(dict_of(w=tensor(store=storage(view=b"N"))))
    body += keys if isinstance(keys, bytes) else pickle.dumps(list(keys), 2)
    return body + b"".join(struct.pack("<q", n) for n in counts) + data


def tar_of(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.USTAR_FORMAT) as t:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    # tarfile fills up to 10240 bytes; two empty blocks are enough
    end = sum(512 + (len(d) + 511) // 512 * 512 for _, d in members)
    return out.getvalue()[:end + 1024]


def torch_tar(ndim=2, size=(2, 3), stride=(3, 1), count=6, data=SIX):
    storages = pkl(integer(1)) + pkl(tup(integer(1000), text("cpu"), name_of("torch", "FloatStorage")))
    storages += struct.pack("<q", count) + data + pkl(b"]")
    tensors = pkl(integer(1)) + pkl(tup(integer(1), integer(1000), name_of("torch", "FloatTensor")))
    tensors += struct.pack("<i4x", ndim) + struct.pack("<%dq" % len(size + stride), *(size + stride)) + struct.pack("<q", 0)
    return tar_of([("sys_info", pkl(b"}")), ("pickle", pkl(dict_of(w=text("1") + b"Q"))),
                   ("tensors", tensors), ("storages", storages)])


def safetensors(header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def npy(header, data=b"", version=1, length=None):
    raw = header.encode()
    size = len(raw) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + (struct.pack("<H", size) if version == 1 else struct.pack("<I", size)) + raw + data


def patched(data, old, new, count=1):
    assert data.count(old) >= count and len(old) == len(new), (old, data.count(old))
    return data.replace(old, new, count)


def central(data, name):
    """Where the central directory's record of `name` starts."""
    at = data.rindex(name.encode()) - 46
    assert data[at:at + 4] == b"PK\x01\x02"
    return at


def with_field(data, at, fmt, value):
    return data[:at] + struct.pack(fmt, value) + data[at + struct.calcsize(fmt):]


def gz(data):
    return gzip.compress(data, 9, mtime=0)


# ---- the files

def no_checkpoints():
    put("empty.pt", b"", "an empty file", words=["empty"])
    put("text.pt", b"epoch 1: loss 0.5\nepoch 2: loss 0.4\n", "a text file", words=["text"])
    put("page.pth", b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Sign in</body></html>\n",
        "a web page: a failed download", words=["HTML"])
    put("lfs_pointer.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 438007537\n",
        "a Git LFS pointer", words=["git lfs"])
    put("json.pt", b'{"learning_rate": 0.1}\n', "a JSON file", words=["json"])
    put("picture.pt", b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\0\0\0\1\0\0\0\1\x08\0\0\0\0:~\x9bU", "a picture")
    put("random.bin", bytes((i * 197 + 83) % 251 for i in range(512)), "bytes of no known format")
    put("zeros.bin", bytes(512), "nothing but zeros")
    put("one_byte.pt", b"\x80", "the first byte of a pickle")
    put("document.zip", zipped([("[Content_Types].xml", b"<Types/>"), ("word/document.xml", b"<w:document/>")]),
        "a zip that is no checkpoint", words=["zip"])
    put("empty.zip", zipped([]), "a zip without members", words=["zip"])
    put("archive.tar", tar_of([("model_config.yaml", b"name: m\n"), ("model_weights.ckpt", torch_zip(STATE))]),
        "an ordinary tar that holds a checkpoint: it is listed, or its members are named", exit=[0, 2])
    put("archive.nemo", gz(tar_of([("model_config.yaml", b"name: m\n"), ("model_weights.ckpt", torch_zip(STATE))])),
        "the same, gzipped", exit=[0, 2])


def truncated():
    good = torch_zip(STATE)
    put("truncated_zip.pt", good[:len(good) // 2], "half a zip: no end record", words=["truncated"])
    put("truncated_zip_end.pt", good[:-10], "a zip whose end record is cut", words=["truncated"])
    old = legacy()
    put("truncated_legacy_pickle.pt", old[:180], "a legacy stream cut inside the object", words=["byte"])
    put("truncated_legacy_keys.pt", old[:-len(SIX) - 8 - 4], "a legacy stream cut inside the list of keys", words=["byte"])
    put("truncated_legacy_count.pt", old[:-len(SIX) - 3], "a legacy stream cut inside a storage's count")
    put("truncated_legacy_data.pt", old[:-7], "a legacy stream cut inside a storage", exit=[0, 2], exit_hash=2)
    tar = torch_tar()
    put("truncated.tar", tar[:tar.index(b"storages") + 600], "a tar cut inside its last member")
    put("truncated.pkl", pickle.dumps({"a": [1, 2, 3], "name": "x" * 40}, 2)[:-20], "a pickle cut in a string", words=["byte"])
    put("truncated_text.pkl", b"(dp0\nS'lr", "a protocol 0 pickle cut inside a line")
    put("truncated.pkl.gz", gz(pickle.dumps(list(range(500)), 2))[:300], "a gzip stream cut short")
    st = safetensors({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}, SIX)
    put("truncated.safetensors", st[:-6], "safetensors data cut short")
    put("truncated_header.safetensors", st[:30], "a safetensors header cut short")
    array = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", SIX)
    put("truncated.npz", zipped([("w.npy", array[:-6])]), "an array in an npz cut short", exit=[0, 2], exit_hash=2)


def pickles():
    p = lambda name, body, why, **k: put("pickle_%s.pkl" % name, body, why, **k)  # noqa: E731
    at = ["byte"]
    p("unknown_opcode", pkl(b"]\xff"), "an opcode that does not exist", words=["opcode"] + at)
    p("protocol_99", b"\x80\x63].", "a protocol that does not exist", words=["protocol"])
    p("get_unset", pkl(b"h\x05"), "GET of a memo entry that was never put", words=["memo"] + at)
    p("get_unset_text", b"g99999999999999999999\n.", "the same by text, larger than 64 bits", words=at)
    p("get_negative", b"g-1\n.", "a negative memo index", words=at)
    p("memo_sparse", pkl(b"]r\xfe\xff\xff\xff(j\xfe\xff\xff\xffe"), "one memo entry of index 2^32-2: no table that long; "
      "and a list that contains itself", exit=0)
    p("put_empty_stack", pkl(b"q\x00"), "PUT with nothing on the stack", words=["stack"] + at)
    p("underflow_append", pkl(b"]a"), "APPEND needs two objects", words=["stack"] + at)
    p("underflow_pop", pkl(b"0"), "POP of nothing", words=["stack"] + at)
    p("underflow_dup", pkl(b"2"), "DUP of nothing", words=["stack"] + at)
    p("underflow_stop", pkl(b""), "STOP with nothing to return", words=["stack"] + at)
    p("underflow_tuple3", pkl(b"K\x01K\x02\x87"), "TUPLE3 of two", words=["stack"] + at)
    p("underflow_mark", pkl(b"K\x01(\x85"), "TUPLE1 must not take what lies below a MARK", words=at)
    p("mark_missing", pkl(b"K\x01t"), "TUPLE without MARK", words=["mark"] + at)
    p("mark_missing_pop", pkl(b"K\x011"), "POP_MARK without MARK", words=["mark"] + at)
    p("mark_left", pkl(b"("), "STOP on a MARK", words=at)
    p("mark_appends", pkl(b"(K\x01e"), "APPENDS with nothing below its MARK", words=["stack"] + at)
    p("marks", gz(b"(" * 1000000), "a million MARKs (gzip)", words=at)
    p("odd_setitems", pkl(b"}(K\x01u"), "SETITEMS with a key and no value", words=at)
    p("odd_dict", b"(K\x01d.", "DICT with a key and no value", words=at)
    p("append_to_int", pkl(b"K\x01K\x02a"), "APPEND to an integer", words=at)
    p("setitem_on_list", pkl(b"]K\x00K\x01s"), "SETITEM on a list", exit=[0, 2])
    p("additems_on_list", b"\x80\x04](K\x01\x90.", "ADDITEMS on a list", words=at)
    p("build_on_int", pkl(b"K\x01}b"), "BUILD on an integer", exit=[0, 2])
    p("reduce_int", pkl(b"K\x01)R"), "REDUCE of an integer: not callable", exit=[0, 2])
    p("reduce_no_tuple", pkl(name_of("builtins", "list") + b"K\x01R"), "REDUCE whose arguments are no tuple", exit=[0, 2])
    p("newobj_no_class", pkl(b"K\x01)\x81"), "NEWOBJ of an integer", exit=[0, 2])
    p("stack_global_no_text", b"\x80\x02U\x02os\x94U\x03a\xffb\x93.", "STACK_GLOBAL of a Python 2 string that is no UTF-8: text for who reads it as Latin-1", exit=0)
    p("stack_global_ints", b"\x80\x04K\x01K\x02\x93.", "STACK_GLOBAL of integers", words=at)
    p("global_cut", pkl(b"cos\nsystem")[:-1], "GLOBAL whose line never ends", words=at)
    p("int_text", b"Iseven\n.", "INT that is no number", words=at)
    p("float_text", b"Fx\n.", "FLOAT that is no number", words=at)
    p("string_unquoted", b"Sabc\n.", "STRING without quotes", words=at)
    p("string_escape", b"S'\\x4'\n.", "STRING with half an escape", exit=[0, 2])
    p("unicode_escape", b"V\\u12\n.", "UNICODE with half an escape", exit=[0, 2])
    p("bad_utf8", pkl(text(b"\xff\xfe\xc3")), "a str that is no UTF-8", exit=[0, 2])
    p("invalid_bool_key", pkl(b"}(\x88K\x01K\x01K\x02u"), "keys True and 1, which Python holds for the same", exit=0)
    p("repeated_key", pkl(b"}(" + text("a") + b"K\x01" + text("a") + b"K\x02u"), "a dict key set twice: the last one counts", exit=0)

    # lengths that the file does not have
    q8, i4 = (lambda n: struct.pack("<Q", n)), (lambda n: struct.pack("<I", n))
    for label, raw in (("binunicode8", b"\x8d" + q8(1 << 40) + b"abc"), ("binunicode8_max", b"\x8d" + q8((1 << 64) - 1) + b"abc"),
                       ("binunicode", b"X" + i4(0xFFFFFFFF) + b"abc"), ("binbytes8", b"\x8e" + q8(1 << 62) + b"abc"),
                       ("binbytes", b"B" + i4(1 << 30) + b"abc"), ("bytearray8", b"\x96" + q8(1 << 50) + b"abc"),
                       ("binstring", b"T" + i4(0x7FFFFFFF) + b"abc"), ("binstring_negative", b"T" + i4(0xFFFFFFFF) + b"abc"),
                       ("long4", b"\x8b" + i4(0x7FFFFFFF) + b"abc"), ("long4_negative", b"\x8b" + i4(0x80000000) + b"abc"),
                       ("frame", b"\x95" + q8(1 << 45) + b"]."), ("frame_max", b"\x95" + q8((1 << 64) - 1) + b"].")):
        p("length_" + label, b"\x80\x05" + raw + b".", "%s announces more than there is" % label.split("_")[0].upper(),
          words=at, exit=[0, 2] if label.startswith("frame") else 2)
    p("long_number", gz(b"\x80\x02\x8b" + i4(1 << 20) + b"\x7f" * (1 << 20) + b"."),
      "an integer of a mebibyte (gzip): its digits are not worth the time", exit=[0, 2])
    p("long_digits", gz(b"L" + b"9" * 1000000 + b"L\n."), "an integer of a million digits (gzip)", exit=[0, 2])

    # nesting
    deep = 1000000
    p("deep_lists", gz(pkl(b"]" * deep + b"a" * (deep - 1))), "lists a million deep (gzip)", words=["deep"])
    p("deep_tuples", gz(pkl(b")" + b"\x85" * deep)), "tuples a million deep (gzip)", words=["deep"])
    p("deep_dicts", gz(pkl(b"}K\x00" * deep + b"N" + b"s" * deep)), "dicts a million deep (gzip)", words=["deep"])
    p("deep_object", gz(pkl(name_of("a", "B") + b")R" + b"\x85" * deep)), "an object under a million tuples (gzip)", words=["deep"])
    p("deep_state", gz(pkl(name_of("a", "B") + b"q\x000" + b"h\x00)R" * deep + b"N" + b"b" * deep)),
      "objects that are each other's state, a million deep (gzip)", words=["deep"])
    p("deep_keys", gz(pkl(b"}" + b")" + b"\x85" * deep + b"Ns")), "a dict key that is a tuple a million deep (gzip)", exit=[0, 2])

    # trees that are small as graphs
    laughs = lambda bottom, level: pkl(bottom + b"q\x00" + b"".join(level(i) for i in range(60)))  # noqa: E731
    p("laughs_lists", laughs(b"]", lambda i: b"0](" + (b"h%c" % i) * 2 + b"e" + b"q%c" % (i + 1)),
      "60 lists, each holding the one before twice", words=["entries"])
    p("laughs_tuples", laughs(b"]", lambda i: b"0" + (b"h%c" % i) * 2 + b"\x86" + b"q%c" % (i + 1)),
      "the same with tuples", words=["entries"])
    p("laughs_dicts", laughs(b"}", lambda i: b"0}(" + text("a") + b"h%c" % i + text("b") + b"h%c" % i + b"u" + b"q%c" % (i + 1)),
      "the same with dicts", words=["entries"])
    p("laughs_keys", pkl(b"}" + laughs(b")", lambda i: b"0" + (b"h%c" % i) * 2 + b"\x86" + b"q%c" % (i + 1))[2:-1] + b"Ns"),
      "a dict key that is tuples of tuples: its repr would be exponential", exit=[0, 2])
    p("long_key", pkl(b"}" + text("n" * 8000) + b"K\x01s"), "a key of 8000 characters", exit=0)
    body = b"}" + b"".join(text(chr(97 + i % 26) * 200) + b"}" for i in range(900)) + text("x") + b"K\x01s" + b"s" * 900
    p("deep_names", gz(pkl(body)), "names of 900 long parts, within the depth that is allowed (gzip)", exit=[0, 2])

    # what contains itself
    p("self_list", pkl(b"]q\x00(K\x01h\x00e"), "a list that contains itself", exit=0)
    p("self_dict", pkl(b"}q\x00" + text("me") + b"h\x00s"), "a dict that contains itself", exit=0)
    p("self_tuple", pkl(b"]q\x00h\x00\x85a"), "a list whose tuple holds the list", exit=0)
    p("self_state", pkl(name_of("a", "B") + b")R" + b"q\x00}" + text("me") + b"h\x00sb"), "an object that is its own attribute", exit=0)
    p("self_keys", pkl(b"}q\x00h\x00K\x01s"), "a dict whose key is itself", exit=[0, 2])
    p("list_key", pkl(b"}]K\x01s"), "a dict key that is a list", exit=[0, 2])
    p("nan_keys", pkl(b"}(" + (b"G\x7f\xf8" + b"\0" * 6 + b"K\x01") * 2 + b"u"), "two keys that are NaN", exit=0)

    # rare opcodes
    p("ext1", pkl(b"\x82\x07"), "EXT1: a class by a number that only the writer's registry knows", exit=0)
    p("ext4_negative", pkl(b"\x84\xff\xff\xff\xff"), "EXT4 with a negative number", words=at)
    p("inst", b"(S'x'\nI7\nimodels\nNet\n.", "INST: an object of protocol 0", exit=0)
    p("inst_no_mark", b"imodels\nNet\n.", "INST without MARK", words=["mark"])
    p("obj", b"(cmodels\nNet\nK\x07o.", "OBJ: an object of protocol 1", exit=0)
    p("obj_empty", b"(o.", "OBJ without a class", words=at)
    p("newobj_ex", b"\x80\x04" + name_of("models", "Net") + b")}" + text("width") + b"K\x07s\x92.", "NEWOBJ_EX: keyword arguments", exit=0)
    p("newobj_ex_int", b"\x80\x04" + name_of("models", "Net") + b")K\x07\x92.", "NEWOBJ_EX whose keywords are no dict", exit=[0, 2])
    p("next_buffer", b"\x80\x05\x97.", "NEXT_BUFFER: the data was sent beside the pickle", exit=0)
    p("readonly_buffer", b"\x80\x05\x97\x98.", "READONLY_BUFFER of such a one", exit=0)
    p("persid", b"Psomewhere else\n.", "PERSID in a plain pickle: the object is elsewhere", exit=[0, 2])
    p("binpersid", pkl(tup(text("storage"), integer(1)) + b"Q"), "BINPERSID in a plain pickle", exit=[0, 2])
    p("two_objects", pkl(b"K\x01K\x02"), "two objects on the stack at STOP: Python takes the upper one", exit=[0, 2])
    p("garbage_after", pkl(dict_of(a=b"K\x01")) + b"\x00garbage\xff", "a whole pickle, then bytes that are none", exit=0, words=["are no pickle"])
    p("half_after", pkl(dict_of(a=b"K\x01")) + pkl(dict_of(b=b"K\x02"))[:-3], "a whole pickle, then half of another", exit=0, words=["are no pickle"])

    # would run on load: is never run
    p("system", pkl(name_of("os", "system") + tup(text("echo this must never run")) + b"R"), "os.system", exit=0,
      lacks=["\nthis must never run"])
    p("eval", b"\x80\x04" + text("builtins") + text("eval") + b"\x93" + tup(text("1/0")) + b"R.", "builtins.eval", exit=0)
    p("getattr", b"\x80\x04" + name_of("builtins", "getattr") + tup(name_of("os", "path"), text("join")) + b"R.",
      "a callable made by another call", exit=0)


def zips():
    z = lambda name, data, why, **k: put("zip_%s.pt" % name, data, why, **k)  # noqa: E731
    nones = pkl(b"N" * (40 << 20))
    z("bomb_opcodes", torch_zip(nones, deflate=["archive/data.pkl"]), "40 MiB of NONE in 40 KiB of deflate", words=["--max-objects"])
    lists = pkl(b"]" * (32 << 20))
    z("bomb_objects", torch_zip(lists, deflate=["archive/data.pkl"]), "33 million lists in 32 KiB of deflate", words=["--max-objects"])
    out = zlib.compressobj(9, zlib.DEFLATED, -15)
    big = out.compress(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 30)) + b"".join(out.compress(bytes(1 << 20)) for _ in range(1024))
    big += out.compress(b".") + out.flush()
    put("zip_bomb_bytes.pt.gz", gz(raw_deflate_zip("archive/data.pkl", big, (1 << 30) + 12)),
        "a gibibyte of zeros in a mebibyte of deflate in a few kilobytes of gzip", words=["--max-expanded-bytes"], exit=[0, 2])
    put("bomb.pkl.bz2", bz2.compress(b"\x80\x04\x8e" + struct.pack("<Q", 300 << 20) + bytes(300 << 20) + b".", 9),
        "300 MiB of zeros in a few hundred bytes of bzip2", words=["--max-expanded-bytes"])
    good = torch_zip(STATE)
    short = torch_zip(STATE, deflate=["archive/data/0"])
    at = central(short, "archive/data/0")
    z("deflate_longer", with_field(short, at + 24, "<I", 8), "a member that inflates to more than its directory entry says",
      exit=[0, 2], exit_hash=2)
    noise = torch_zip(STATE, deflate=["archive/data.pkl"])
    body = noise.index(b"archive/data.pkl") + len("archive/data.pkl")
    z("deflate_broken", noise[:body] + b"\xff" * 8 + noise[body + 8:], "a deflate stream that is none", words=["data.pkl"])

    twice = patched(torch_zip(STATE, extra=[("archive/data.pkX", pkl(b"}"))]), b"data.pkX", b"data.pkl", 2)
    z("duplicate_member", twice, "two members data.pkl: readers would not agree which one counts", words=["data.pkl"])
    two = torch_zip(STATE, [("0", SIX), ("1", SIX)])
    first, second = (two.index(n) for n in (b"archive/data/0", b"archive/data/1"))
    z("overlap_same", with_field(two, central(two, "archive/data/1") + 42, "<I", first - 30),
      "two directory entries for one local header", words=["overlap"])
    at = central(two, "archive/data/0")
    longer = second + 40 - first
    z("overlap_quoted", with_field(with_field(two, at + 20, "<I", longer), at + 24, "<I", longer),
      "a member whose data reaches into the next one", words=["overlap"])
    z("dotdot_member", torch_zip(STATE, extra=[("archive/../../../tmp/escaped", b"x")]), "a member that climbs out", words=[".."])
    z("absolute_member", torch_zip(STATE, extra=[("/etc/escaped", b"x")]), "a member with an absolute name", exit=[0, 2])
    z("hostile_member", torch_zip(STATE, extra=[("archive/\x1b[2J\n\u202eevil", b"x")]), "control characters in a member's name",
      exit=[0, 2], lacks=["\x1b", "\u202e"])
    z("offset_beyond", with_field(good, central(good, "archive/data/0") + 42, "<I", 0x7FFFFFFF), "a local header beyond the file",
      exit=[0, 2], exit_hash=2)
    at = central(good, "archive/data/0")
    z("size_beyond", with_field(with_field(good, at + 20, "<I", 0x7FFFFFFF), at + 24, "<I", 0x7FFFFFFF), "a member longer than the file",
      exit=[0, 2], exit_hash=2)
    z("encrypted", with_field(good, central(good, "archive/data.pkl") + 8, "<H", 1), "an encrypted member", words=["encrypt"])
    z("method_99", with_field(good, central(good, "archive/data.pkl") + 10, "<H", 99), "a compression nobody has", words=["data.pkl"])
    end = good.rindex(b"PK\x05\x06")
    z("count_too_many", with_field(with_field(good, end + 8, "<H", 0xFFFE), end + 10, "<H", 0xFFFE),
      "an end record that counts 65,534 members; there are three")
    z("directory_beyond", with_field(good, end + 16, "<I", 0x7FFFFFFF), "a directory beyond the file")
    z("no_pickle", zipped([("archive/data/0", SIX), ("archive/version", b"3\n")]), "torch's layout without data.pkl", words=["archive/version"])
    z("no_storage_folder", zipped([("data.pkl", STATE), ("data/0", SIX)]), "members without a top folder", exit=[0, 2])
    z("after_stop", torch_zip(STATE + b"more bytes"), "bytes after STOP, which torch does not look at", exit=0)
    z("bad_crc", with_field(good, central(good, "archive/data/0") + 16, "<I", 0xDEADBEEF), "a CRC that is not the data's: torch loads it", exit=0)
    z("version_999", zipped([("archive/data.pkl", STATE), ("archive/data/0", SIX), ("archive/version", b"999\n")]),
      "a format version of the future", exit=[0, 2])
    z("byteorder_middle", torch_zip(STATE, extra=[("archive/byteorder", b"middle")]), "a byte order that does not exist", exit=[0, 2], exit_hash=2)
    z("pickle_truncated", torch_zip(STATE[:-9]), "data.pkl ends before STOP", words=["data.pkl"])


def raw_deflate_zip(name, raw, size):
    """A zip of one member whose deflate stream is given (its CRC is left 0: reading must not need it)."""
    raw_name = name.encode()
    head = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, 0, len(raw), size, len(raw_name), 0)
    local = b"PK\x03\x04" + head + raw_name + raw
    directory = b"PK\x01\x02" + struct.pack("<H", 20) + head + struct.pack("<HHHII", 0, 0, 0, 0, 0) + raw_name
    return local + directory + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(directory), len(local), 0)


def tensors():
    def t(name, why, pickled=None, storages=(("0", SIX),), exit=(0, 2), exit_hash=2, **shape):
        put("tensor_%s.pt" % name, torch_zip(pkl(dict_of(w=pickled or tensor(**shape))), storages), why,
            exit=exit if isinstance(exit, int) else list(exit), exit_hash=exit_hash)

    t("negative_size", "a size below zero", size=(-2, 3))
    t("negative_sizes", "two sizes below zero: their product is not", size=(-2, -3))
    t("negative_stride", "a stride below zero", stride=(-3, 1))
    t("negative_offset", "an offset below zero", offset=-1)
    t("overflowing_sizes", "2^62 x 2^62 elements", size=(1 << 62, 1 << 62))
    t("overflowing_bytes", "2^62 elements of 4 bytes", size=(1 << 62,), stride=(1,))
    t("overflowing_stride", "a last element past 2^64", size=(2, 2), stride=((1 << 63) - 1, 1 << 62))
    t("overflowing_offset", "an offset of 2^63-1", offset=(1 << 63) - 1)
    t("size_beyond_64_bits", "a size of 2^70", size=(1 << 70,), stride=(1,))
    t("outside_storage", "24 elements of a storage of 6", size=(4, 6), stride=(6, 1), exit=0)
    t("outside_by_one", "one element too many", offset=1, exit=0)
    t("missing_storage", "a storage that is not in the file", store=storage("7"), exit=0)
    t("short_storage", "a storage shorter than its pickle says", storages=[("0", SIX[:20])], exit=0)
    t("empty_storage", "a storage without a byte", storages=[("0", b"")], exit=0)
    t("petabytes", "one element expanded to 2^50: stride 0", size=(1 << 50,), stride=(0,), exit=0)
    t("many_dims", "a thousand dimensions of 1", size=(1,) * 1000, stride=(1,) * 1000, exit_hash=[0, 2])
    t("huge_empty", "2^62 x 2^62 x 0 elements: none at all", size=(1 << 62, 1 << 62, 0), stride=(0, 1, 1), exit=[0, 2], exit_hash=[0, 2])
    t("size_stride_differ", "two sizes and one stride", size=(2, 3), stride=(1,))
    t("unknown_storage_class", "an element type nobody has listed", store=storage(cls="Float3Storage"), exit=0, exit_hash=[0, 2])
    t("storage_key_escapes", "a storage key that climbs out of data/", store=storage("../data.pkl", 4), size=(2, 2), stride=(2, 1), exit_hash=[0, 2])
    t("same_key_two_types", "one storage as float32 and as float64",
      pickled=tup(tensor(), tensor(store=storage("0", 3, "DoubleStorage"), size=(3,), stride=(1,))), exit_hash=[0, 2])
    t("same_key_two_sizes", "one storage as six float32 and as two float64",
      pickled=tup(tensor(), tensor(store=storage("0", 2, "DoubleStorage"), size=(2,), stride=(1,))), exit=0, exit_hash=0)
    rebuild = name_of("torch._utils", "_rebuild_tensor_v2")
    for name, args, why in (
            ("no_arguments", b")", "a constructor without arguments"),
            ("few_arguments", tup(storage(), integer(0)), "a constructor with too few arguments"),
            ("text_size", tup(storage(), integer(0), tup(text("two")), ints([1]), b"\x89", b"N"), "a size that is text"),
            ("int_size", tup(storage(), integer(0), integer(6), integer(1), b"\x89", b"N"), "a size that is no tuple"),
            ("no_storage", tup(integer(5), integer(0), ints([6]), ints([1]), b"\x89", b"N"), "a storage that is a number"),
            ("persid_int", tup(integer(5) + b"Q", integer(0), ints([6]), ints([1]), b"\x89", b"N"), "a persistent id that is a number"),
            ("persid_short", tup(tup(text("storage")) + b"Q", integer(0), ints([6]), ints([1]), b"\x89", b"N"), "a persistent id of one part"),
            ("persid_numel", tup(storage(numel=-1), integer(0), ints([6]), ints([1]), b"\x89", b"N"), "a storage of -1 elements"),
            ("persid_numel_huge", tup(storage(numel=1 << 62), integer(0), ints([6]), ints([1]), b"\x89", b"N"), "a storage of 2^62 elements")):
        t(name, why, pickled=rebuild + args + b"R", exit_hash=[0, 2])
    body = tensor() + b"q\x00" + b"".join(b"0](" + (b"h%c" % i) * 2 + b"e" + b"q%c" % (i + 1) for i in range(60))
    put("tensor_laughs.pt", torch_zip(pkl(body)), "60 lists of lists above one tensor", words=["entries"])
    put("tensor_self.pt", torch_zip(pkl(b"}q\x00(" + text("w") + tensor() + text("me") + b"h\x00u")),
        "a state dict that contains itself", exit=0)
    keys = [b"\x1b[2J\x1b[31mred", b"two\nlines", b"tab\there", "\u202egnp.exe".encode(), "\u2066hidden\u2069".encode(), b"nul\0byte",
            b"\xed\xa0\x80lone surrogate", "\u0085next line".encode(), "zero\u200bwidth".encode(), b"", b"'quoted\"", b"back\\slash"]
    put("tensor_names.pt", torch_zip(pkl(b"}(" + b"".join(text(k) + tensor() for k in keys) + b"u")),
        "names that would write to the terminal", exit=0, lacks=["\x1b", "\u202e", "\u2066", "\0", "\u0085"])


def legacies():
    def l(name, data, why, exit=(0, 2), exit_hash=2, words=()):
        put("legacy_%s.pt" % name, data, why, exit=exit if isinstance(exit, int) else list(exit),
            exit_hash=None if exit == 2 else exit_hash, words=words)

    l("negative_count", legacy(counts=(-1,)), "a storage of -1 elements")
    l("huge_count", legacy(counts=((1 << 62) + 1,)), "2^62+1 elements of 4 bytes: 4 bytes in 64 bits")
    l("count_beyond", legacy(counts=(1 << 40,)), "more elements than the file has bytes")
    l("count_differs", legacy(counts=(5,), data=SIX[:20]), "a count below what the tensor needs")
    l("keys_missing", legacy(keys=(), counts=(), data=b""), "no key for the object's storage")
    l("keys_unknown", legacy(keys=("0", "9"), counts=(6, 3), data=SIX + struct.pack("<q", 3) + SIX[:12]),
      "a key that the object never names: its element size is unknown", exit_hash=[0, 2])
    l("keys_no_list", legacy(keys=pkl(b"K\x05")), "keys that are a number", exit=2)
    l("keys_unhashable", legacy(keys=pkl(b"](]]e")), "keys that are lists", exit=[0, 2])
    for name, numel, exit_hash in (("types", 3, 0), ("sizes", 2, 2)):
        both = tup(tensor(store=storage(view=b"N")), tensor(store=storage("0", numel, "DoubleStorage", view=b"N"), size=(numel,), stride=(1,)))
        l("two_" + name, legacy(pkl(dict_of(w=both))), "one storage of six float32 and of %d float64" % numel,
          exit=0, exit_hash=exit_hash)
    l("protocol_1002", legacy(protocol=1002), "a legacy protocol that does not exist", exit=2, words=["1002"])
    view = tup(text("v"), integer(4), integer(1 << 40))
    l("view_outside", legacy(pkl(dict_of(w=tensor(store=storage(view=view))))), "a view of a storage that leaves it")
    view = tup(text("v"), integer(-4), integer(6))
    l("view_negative", legacy(pkl(dict_of(w=tensor(store=storage(view=view))))), "a view that starts below zero")
    l("magic_only", pickle.dumps(0x1950A86A20F9469CFC6C, 2), "the magic number and nothing after it", exit=2)
    l("trailing", legacy() + b"trailing bytes", "bytes after the last storage", exit=[0, 2], exit_hash=[0, 2])

    put("tar_negative_ndim.tar", torch_tar(ndim=-1), "a tensor of -1 dimensions")
    put("tar_huge_ndim.tar", torch_tar(ndim=0x7FFFFFFF), "a tensor of 2^31-1 dimensions")
    put("tar_negative_size.tar", torch_tar(size=(-2, 3)), "a size below zero", exit=[0, 2], exit_hash=2)
    put("tar_count_beyond.tar", torch_tar(count=1 << 60), "a storage longer than its member")
    put("tar_size_octal.tar", tar_size(b"zzzzzzzzzzz\0"), "a member size that is no number")
    put("tar_size_huge.tar", tar_size(b"\x80\0\0\0\x7f" + b"\xff" * 7), "a member of 2^63-1 bytes")
    put("tar_size_negative.tar", tar_size(b"\xff" * 12), "a member of -1 bytes")


def tar_size(field):
    data = bytearray(torch_tar())
    at = data.index(b"pickle")
    data[at + 124:at + 136] = field
    data[at + 148:at + 156] = b" " * 8
    data[at + 148:at + 156] = b"%06o\0 " % sum(data[at:at + 512])
    return bytes(data)


def other_formats():
    f32 = lambda shape, a, b, **k: dict({"dtype": "F32", "shape": shape, "data_offsets": [a, b]}, **k)  # noqa: E731
    s = lambda name, data, why, **k: put("st_%s.safetensors" % name, data, why, **k)  # noqa: E731
    s("header_beyond", safetensors({"w": f32([6], 0, 24)}, SIX, length=4000), "a header longer than the file", words=["header"])
    s("header_huge", b"\xff" * 7 + b"\x7f" + b'{"w":{}}', "a header of 2^63-1 bytes")
    s("header_not_json", safetensors(b'{"w": {"dtype" "F32"}}'), "a header that is no JSON")
    s("header_list", struct.pack("<Q", 10) + b'{}[1, 2]  ', "something after the header's object")
    s("header_deep", safetensors(b'{"w":' + b"[" * 5000 + b"]" * 5000 + b"}"), "a header nested 5,000 deep")
    s("overlap", safetensors({"a": f32([6], 0, 24), "b": f32([6], 0, 24)}, SIX), "two tensors on the same bytes", words=["overlap"])
    s("hole", safetensors({"a": f32([1], 0, 4), "b": f32([1], 20, 24)}, SIX), "bytes that no tensor covers", exit=[0, 2])
    s("duplicate_key", safetensors(b'{"w":{"dtype":"F32","shape":[6],"data_offsets":[0,24]},'
                                   b'"w":{"dtype":"I32","shape":[6],"data_offsets":[0,24]}}', SIX), "one name twice", words=["w"])
    s("offsets_reversed", safetensors({"w": f32([6], 24, 0)}, SIX), "an end before the start")
    s("offsets_beyond", safetensors({"w": f32([60], 0, 240)}, SIX), "data beyond the file")
    s("offsets_negative", safetensors({"w": f32([6], -24, 0)}, SIX), "an offset below zero")
    s("offsets_fraction", safetensors({"w": f32([6], 0.5, 24)}, SIX), "an offset that is no integer")
    s("shape_differs", safetensors({"w": f32([7], 0, 24)}, SIX), "a shape that does not fit its bytes")
    s("shape_overflow", safetensors({"w": f32([1 << 62, 1 << 62], 0, 24)}, SIX), "a shape past 64 bits")
    s("shape_negative", safetensors({"w": f32([-6], 0, 24)}, SIX), "a shape below zero")
    s("dtype_unknown", safetensors({"w": dict(f32([6], 0, 24), dtype="F33")}, SIX), "a dtype nobody has listed", exit=[0, 2])
    s("trailing", safetensors({"w": f32([5], 0, 20)}, SIX), "bytes after the last tensor", exit=[0, 2])
    s("metadata_number", safetensors({"__metadata__": {"epoch": 3}, "w": f32([6], 0, 24)}, SIX), "metadata that is no text", exit=[0, 2])
    s("names", safetensors({"\x1b[2Jred\n\u202e": f32([6], 0, 24)}, SIX), "a name that would write to the terminal", exit=0,
      lacks=["\x1b", "\u202e"])

    shape = lambda s, d="<f4": "{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n" % (d, s)  # noqa: E731
    for name, data, why, exit, exit_hash in (
            ("header_beyond", npy(shape("(6,)"), SIX, length=60000), "a header longer than the file", 2, None),
            ("header_huge", npy(shape("(6,)"), SIX, version=2, length=0xFFFFFFF0), "a header of 4 GiB", 2, None),
            ("header_text", npy("import os\n", SIX), "a header that is no dict", 2, None),
            ("header_deep", npy("{'shape': " + "(" * 5000 + ")" * 5000 + "}\n"), "a header nested 5,000 deep", 2, None),
            ("shape_beyond", npy(shape("(1000000, 1000000)"), SIX), "a shape beyond the file", [0, 2], 2),
            ("shape_overflow", npy(shape("(4611686018427387904, 4611686018427387904)"), SIX), "a shape past 64 bits", [0, 2], 2),
            ("shape_negative", npy(shape("(-6,)"), SIX), "a shape below zero", [0, 2], 2),
            ("version_9", npy(shape("(6,)"), SIX, version=9), "a version that does not exist", 2, None),
            ("objects_truncated", npy(shape("(2,)", "|O"), pickle.dumps([1, 2], 2)[:-3]), "an object array whose pickle is cut", [0, 2], [0, 2])):
        put("npy_%s.npz" % name, zipped([("w.npy", data)]), why, exit=exit, exit_hash=exit_hash)

    put("shards_escape/model.safetensors.index.json",
        json.dumps({"metadata": {"total_size": 24}, "weight_map": {"w": "../../escaped.safetensors"}}).encode(),
        "a shard outside its folder", words=["escaped"])
    put("shards_missing/model.safetensors.index.json",
        json.dumps({"metadata": {"total_size": 24}, "weight_map": {"w": "model-00001-of-00001.safetensors"}}).encode(),
        "a shard that is not there", words=["model-00001-of-00001.safetensors"])
    put("shards_wrong/model.safetensors.index.json",
        json.dumps({"metadata": {"total_size": 24}, "weight_map": {"b": "model-00001-of-00001.safetensors"}}).encode(),
        "a tensor that its shard does not hold", exit=[0, 2], exit_hash=2)
    with open(os.path.join(OUT, "shards_wrong/model-00001-of-00001.safetensors"), "wb") as f:
        f.write(safetensors({"w": f32([6], 0, 24)}, SIX))
    put("shards_itself/model.safetensors.index.json",
        json.dumps({"metadata": {}, "weight_map": {"w": "model.safetensors.index.json"}}).encode(), "an index that names itself")
    put("dcp_truncated/.metadata", b"\x80\x02ctorch.distributed.checkpoint.metadata\nMetadata\n)\x81}(X\x05", "a DCP index cut short")


def found_by_fuzzing():
    """What `fuzz/` found, cut down to what matters."""
    def array(data):
        kind = name_of("numpy", "dtype") + tup(text("f4"), integer(0), integer(1)) + b"R"
        kind += tup(integer(3), text("<"), b"N", b"N", b"N", integer(-1), integer(-1), integer(0)) + b"b"
        made = name_of("numpy.core.multiarray", "_reconstruct") + tup(name_of("numpy", "ndarray"), ints([0]), b"U\x01b") + b"R"
        return pkl(dict_of(w=made + tup(integer(1), ints([2]), kind, b"\x89", data) + b"b"))

    def encoded(opcodes):
        return name_of("_codecs", "encode") + tup(opcodes, text("latin1")) + b"R"

    put("numel_below_tensor.pt", torch_zip(pkl(dict_of(w=tensor(size=(4, 6), stride=(6, 1)))), [("0", SIX * 4)]),
        "a tensor inside its member, but not inside the elements that its storage says it has", exit=0, exit_hash=2)
    for name, data in [("raw", b"U\x09ABCDEFGHI"), ("escaped", b"S'ABCDEFGH\\x49'\n"), ("utf8", encoded(text("ABCDEFGH\xc9"))),
                       ("unicode_escape", encoded(b"VABCDEFG\\u00\n"))]:
        put("array_data_longer_%s.pkl" % name, array(data), "bytes that are more than the array's elements", exit=0, exit_hash=2)
    put("safetensors_from_overflow.pt", torch_zip(pkl(dict_of(w=tensor(size=(1 << 62, 1 << 62, 0), stride=(0, 0, 1))))),
        "no elements, in a shape that safetensors and numpy cannot count", exit=[0, 2])
    put("nul_in_name.pt", torch_zip(pkl(b"}(" + text("a\0b") + tensor() + b"u")), "a name that no npz can have", exit=0)
    put("inst_of_a_long_name.pkl", pkl(b"(i" + b"m" * 90 + b"\n" + b"N" * 90 + b"\n"), "a class whose name is all there is", exit=0)
    views = b"".join(text("v%02d" % i) + tensor(size=(1 << 22, 8 + i), stride=(0, 0)) for i in range(40))
    put("many_expanded_views.pt", torch_zip(pkl(b"}(" + views + b"u"), deflate=["archive/data.pkl"]),
        "forty views, of 128 MiB and more each, of one element", exit=[0, 2], exit_hash=2, words=())
    bomb = bz2.compress(b"\x80\x04\x8e" + struct.pack("<Q", 300 << 20) + bytes(300 << 20) + b".", 9)
    put("bombs_in_members.pt", torch_zip(STATE, extra=[("archive/extra/%d" % i, bomb) for i in range(40)]),
        "forty bombs beside the pickle, for who looks into every member", exit=0)


def main():
    for part in (no_checkpoints, truncated, pickles, zips, tensors, legacies, other_formats, found_by_fuzzing):
        part()
    with open(os.path.join(OUT, "expected.json"), "w", encoding="utf-8") as f:
        json.dump(EXPECTED, f, indent=1, sort_keys=True)
        f.write("\n")
    print("%d files" % len(EXPECTED))


if __name__ == "__main__":
    main()
