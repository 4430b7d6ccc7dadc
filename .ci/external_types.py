"""Prints the types of other crates that occur in a crate's public API, one per line.

Reads rustdoc's JSON on standard input. A type of another crate in the public API ties the crate's
major version to that crate's.
"""

import json
import sys

STANDARD = {"std", "core", "alloc"}


def referenced(value):
    """Yields the ids that a signature names."""
    if isinstance(value, dict):
        if "resolved_path" in value:
            yield value["resolved_path"]["id"]
        if isinstance(value.get("trait"), dict) and "id" in value["trait"]:
            yield value["trait"]["id"]
        for key, part in value.items():
            if key not in ("links", "docs", "attrs", "span"):
                yield from referenced(part)
    elif isinstance(value, list):
        for part in value:
            yield from referenced(part)


def is_ours(item):
    """Returns whether an item is written in the crate: blanket implementations and those that the
    compiler adds are not."""
    implementation = item["inner"].get("impl")
    if implementation is None:
        return True
    return not (implementation["is_synthetic"] or implementation["blanket_impl"])


documented = json.load(sys.stdin)
crates = {int(key): crate["name"] for key, crate in documented["external_crates"].items()}
paths = documented["paths"]
found = set()
for item in documented["index"].values():
    if item["crate_id"] != 0 or not is_ours(item):
        continue
    ids = set(referenced(item["inner"]))
    # A re-export is an item of its own.
    if "use" in item["inner"] and item["inner"]["use"]["id"] is not None:
        ids.add(item["inner"]["use"]["id"])
    for path in (paths.get(str(id)) for id in ids):
        if path and path["crate_id"] != 0 and crates[path["crate_id"]] not in STANDARD:
            found.add("::".join(path["path"]))
print("\n".join(sorted(found)))
