"""Write what Python's codecs encode as data: encodings.txt, beside this script.

usage: python3.11 encodings.py [OUT]

A line `codec NAME KIND RANGES` for each codec, `alias NAME CODEC` for each other name. The kinds: `characters` encodes the
code points in the ranges; `unicode` all but surrogates; `everything` also these; `east_asian` ASCII and a few thousand that
are not listed; `bytes` encodes bytes, not text; `rot_13`, `idna`, `punycode` and `undefined` are
themselves. A line `objects NAME` for a codec that encodes `str(object)`. Codecs that Windows alone has are left out.
"""
import _multibytecodec
import codecs
import encodings
import encodings.aliases
import os
import pkgutil
import sys

LEFT_OUT = {"aliases", "mbcs", "oem"}
THEMSELVES = {"rot_13", "idna", "punycode", "undefined"}


def encodes(name, point):
    try:
        chr(point).encode(name)
        return True
    except UnicodeError:
        return False


def ranges(name, end=0x110000):
    out = []
    for point in range(end):
        if encodes(name, point):
            if out and out[-1][1] == point - 1:
                out[-1][1] = point
            else:
                out.append([point, point])
    return out


def described(name):
    if name in THEMSELVES:
        return name
    if not codecs.lookup(name)._is_text_encoding:
        return "bytes"
    found = ranges(name)
    if found == [[0, 0x10FFFF]]:
        return "everything"
    if found == [[0, 0xD7FF], [0xE000, 0x10FFFF]]:
        return "unicode"
    if len(found) > 300:
        return "east_asian"
    return "characters " + ",".join(f"{first:x}-{last:x}" for first, last in found)


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "encodings.txt")
    lines = ["# What Python's codecs encode; written by encodings.py, do not edit.", "python " + sys.version.split()[0]]
    names = [module.name for module in pkgutil.iter_modules(encodings.__path__) if module.name not in LEFT_OUT]
    lines += [f"codec {name} {described(name)}" for name in names]
    multibyte = _multibytecodec.MultibyteIncrementalEncoder
    lines += [f"objects {name}" for name in names if issubclass(codecs.lookup(name).incrementalencoder, multibyte)]
    lines += [f"alias {alias} {name}" for alias, name in sorted(encodings.aliases.aliases.items()) if name in names]
    with open(out, "w", encoding="ascii", newline="\n") as f:
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
