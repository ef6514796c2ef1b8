"""Sums up llvm-cov's export on standard input: lines covered of each directory of src/ that is named."""
import json
import sys

counts = {room: [0, 0] for room in sys.argv[1:]}
for file in json.load(sys.stdin)["data"][0]["files"]:
    path = file["filename"].split("/src/")[-1]
    room = path.split("/")[0]
    if room in counts and "/tests" not in path:
        lines = file["summary"]["lines"]
        counts[room][0] += lines["covered"]
        counts[room][1] += lines["count"]
print("".join("%10.1f%%" % (100 * covered / max(total, 1)) for covered, total in counts.values()))
