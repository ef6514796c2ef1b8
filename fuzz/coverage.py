"""Sums up llvm-cov's lcov export on standard input: lines reached of each room of src/ that is named, as a percentage of all
lines, and of those that do not make an error. `--missed ROOM` lists the others that are not reached instead."""
import re
import sys

# what makes an error or hands one on: the statement counts to its last line
MAKES_ERROR = re.compile(
    r"Error::|\bErr\(|\bok_or|map_err|bail!|\bfail\(|\.fail|\bwrong\(|\blet message\b|\blet why\b|context\(|\.bad\(|ErrorKind::"
)


def error_lines(path):
    """Numbers of the lines that belong to statements that make errors."""
    numbers, open_brackets = set(), 0
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        if open_brackets > 0 or MAKES_ERROR.search(line):
            numbers.add(number)
            open_brackets += sum(line.count(c) for c in "([") - sum(line.count(c) for c in ")]")
            open_brackets = max(open_brackets, 0)
    return numbers


def main():
    missed = sys.argv[2] if sys.argv[1] == "--missed" else None
    rooms = [missed] if missed else sys.argv[1:]
    counts = {room: [0, 0, 0, 0] for room in rooms}
    room = path = skipped = None
    for line in sys.stdin:
        key, _, value = line.strip().partition(":")
        if key == "SF":
            path = value
            room = value.split("/src/")[-1].split("/")[0]
            room = room if room in counts and "/tests" not in value else None
            skipped = error_lines(value) if room else None
        elif key == "DA" and room:
            number, count = (int(part) for part in value.split(",")[:2])
            reached = count > 0
            counts[room][0] += reached
            counts[room][1] += 1
            if number not in skipped:
                counts[room][2] += reached
                counts[room][3] += 1
                if missed and not reached:
                    print("%s:%d" % (path.split("/src/")[-1], number))
    if not missed:
        parts = ((100 * a / max(b, 1), 100 * c / max(d, 1)) for a, b, c, d in counts.values())
        print("".join("%13s" % ("%.1f (%.1f)" % pair) for pair in parts))


main()
