#!/usr/bin/env python3
"""Writes the bill of materials (CycloneDX 1.5) and the licence texts of all that is linked into the program.

    bill.py --target x86_64-unknown-linux-gnu --features vendored --created 1795348800 \
        --bill zkbridge.cdx.json --notices NOTICES.txt

Both come from `cargo metadata`: the crates that the program needs on this target, with the C libraries in their sources.
A crate without a licence ends it, and so does one whose licence has no text.
"""

import argparse
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import uuid

# The C libraries in the sources of crates: crate → name, and where its version is: in the version of the crate after
# the "+", or in a header.
LIBRARIES = {
    "aws-lc-sys": ("aws-lc", ("aws-lc/include/openssl/base.h", r'AWSLC_VERSION_NUMBER_STRING "([^"]+)"')),
    "libsqlite3-sys": ("sqlite", ("sqlite3/sqlite3.h", r'SQLITE_VERSION\s+"([^"]+)"')),
    "libz-sys": ("zlib", ("src/zlib/zlib.h", r'ZLIB_VERSION "([^"]+)"')),
    "openssl-src": ("openssl", None),
    "rdkafka-sys": ("librdkafka", None),
    "zstd-sys": ("zstd", None),
}

# Build dependencies whose sources are linked into the program.
SOURCES = {"openssl-src"}

LICENCE_FILE = re.compile(r"^(licen[cs]es?|copying|copyright|notice|unlicense)([-._].*)?$", re.IGNORECASE)

# How deep licence files of bundled sources lie.
DEPTH_MAX = 3

# A licence text is no longer than this; anything else that has such a name is none.
TEXT_BYTES_MAX = 256 << 10


def fail(message):
    sys.exit(f"bill: {message}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--features", default="")
    parser.add_argument("--created", required=True, type=int, help="seconds since 1970")
    parser.add_argument("--bill", required=True)
    parser.add_argument("--notices", required=True)
    return parser.parse_args()


def metadata(args):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", args.target]
    if args.features:
        command += ["--features", args.features]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def linked(document):
    """The packages that are linked into the program, by id, with the ids of those that each needs."""
    nodes = {node["id"]: node for node in document["resolve"]["nodes"]}
    packages = {package["id"]: package for package in document["packages"]}
    root = document["resolve"]["root"]
    if root is None:
        fail("the workspace has no root package")
    found, waiting = {}, [root]
    while waiting:
        this = waiting.pop()
        if this in found:
            continue
        needed = []
        for dependency in nodes[this]["deps"]:
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
            name = packages[dependency["pkg"]]["name"]
            if None in kinds or ("build" in kinds and name in SOURCES):
                needed.append(dependency["pkg"])
        # Macros run in the compiler and are not in the program.
        needed = [one for one in needed if not is_macro(packages[one])]
        found[this] = needed
        waiting += needed
    return packages, root, found


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


def folder_of(package):
    return os.path.dirname(package["manifest_path"])


def library_of(package):
    """The C library in the sources of a crate, with its version."""
    if package["name"] not in LIBRARIES:
        return None
    name, place = LIBRARIES[package["name"]]
    if place is None:
        version = package["version"].partition("+")[2]
        version = version.rpartition("zstd.")[2] if name == "zstd" else version
    else:
        file, pattern = place
        with open(os.path.join(folder_of(package), file), encoding="utf-8", errors="replace") as header:
            match = re.search(pattern, header.read())
        version = match and match.group(1)
    if not version:
        fail(f"{package['name']} {package['version']}: the version of {name} is not found in it")
    return name, version


def checksums():
    """(name, version) → SHA-256 of the published crate, from Cargo.lock."""
    found = {}
    with open("Cargo.lock", encoding="utf-8") as lock:
        for part in lock.read().split("[[package]]"):
            fields = dict(re.findall(r'^(name|version|checksum) = "([^"]+)"', part, re.MULTILINE))
            if "checksum" in fields:
                found[fields["name"], fields["version"]] = fields["checksum"]
    return found


def component(package, sums):
    name, version = package["name"], package["version"]
    reference = f"pkg:cargo/{name}@{version}"
    described = {
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": version,
        "purl": reference,
        "scope": "required",
        "licenses": [{"expression": licence_of(package)}],
    }
    if (name, version) in sums:
        described["hashes"] = [{"alg": "SHA-256", "content": sums[name, version]}]
    if package.get("repository"):
        described["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    library = library_of(package)
    if library:
        generic = f"pkg:generic/{library[0]}@{library[1]}"
        described["components"] = [
            {"type": "library", "bom-ref": generic, "name": library[0], "version": library[1], "purl": generic}
        ]
    return described


def licence_of(package):
    licence = package.get("license")
    if not licence:
        if package.get("license_file"):
            return "LicenseRef-" + package["name"]
        fail(f"{package['name']} {package['version']} names no licence")
    # The older form of "one of".
    return licence.replace("/", " OR ")


def bill_of(args, packages, root, found):
    sums = checksums()
    others = sorted((packages[one] for one in found if one != root), key=lambda one: (one["name"], one["version"]))
    program = component(packages[root], {})
    program["type"] = "application"
    references = {one: f"pkg:cargo/{packages[one]['name']}@{packages[one]['version']}" for one in found}
    dependencies = [
        {"ref": references[one], "dependsOn": sorted(references[other] for other in needed)}
        for one, needed in found.items()
    ]
    time = datetime.datetime.fromtimestamp(args.created, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": time, "component": program},
        "components": [component(package, sums) for package in others],
        "dependencies": sorted(dependencies, key=lambda one: one["ref"]),
    }
    # The same content has the same number.
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = "urn:uuid:" + str(uuid.uuid5(uuid.NAMESPACE_URL, content))
    return document


def licence_texts(package):
    """The licence files of a crate and of the sources that it bundles."""
    top, texts = folder_of(package), []
    for parent, folders, files in os.walk(top):
        depth = os.path.relpath(parent, top).count(os.sep) + (parent != top)
        folders[:] = sorted(folders) if depth < DEPTH_MAX else []
        for name in sorted(files):
            path = os.path.join(parent, name)
            if not LICENCE_FILE.match(name) or os.path.getsize(path) > TEXT_BYTES_MAX:
                continue
            with open(path, encoding="utf-8", errors="replace") as file:
                texts.append((os.path.relpath(path, top), file.read().strip()))
    return texts


def notices_of(packages, root, found):
    """One text with every licence once, and the crates that have it."""
    users, texts, silent = {}, {}, []
    crates = sorted((packages[one] for one in found), key=lambda one: (one["name"], one["version"]))
    lines = ["Licences of what is linked into zkbridge", "", "Crates and the libraries in their sources:", ""]
    for package in crates:
        label = f"{package['name']} {package['version']}"
        library = library_of(package)
        lines.append(f"  {label}: {licence_of(package)}" + (f" (with {' '.join(library)})" if library else ""))
        if package["id"] == root:
            continue
        found_here = licence_texts(package)
        if not found_here:
            silent.append(package)
        for _, text in found_here:
            key = hashlib.sha256(text.encode()).hexdigest()
            texts[key] = text
            users.setdefault(key, []).append(label)
    lines += ["", "The standard library of Rust: MIT OR Apache-2.0", ""]
    # Crates without a file: their licence is one whose text is below, or that of zkbridge itself.
    for package in silent:
        if not re.search(r"Apache-2\.0|MIT", licence_of(package)):
            fail(f"{package['name']} {package['version']} has the licence {licence_of(package)} and no text of it")
    for key in sorted(texts, key=lambda one: users[one]):
        lines += ["=" * 80, "Of " + ", ".join(users[key]), "=" * 80, "", texts[key], ""]
    with open("LICENSE", encoding="utf-8") as file:
        names = ", ".join(f"{one['name']} {one['version']}" for one in silent)
        lines += ["=" * 80, f"Of zkbridge, and of crates that bring no text: {names}", "=" * 80, "", file.read()]
    return "\n".join(lines)


def main():
    args = arguments()
    packages, root, found = linked(metadata(args))
    with open(args.bill, "w", encoding="utf-8") as file:
        json.dump(bill_of(args, packages, root, found), file, indent=1, sort_keys=True, ensure_ascii=False)
        file.write("\n")
    with open(args.notices, "w", encoding="utf-8") as file:
        file.write(notices_of(packages, root, found))
    print(f"bill: {len(found)} crates")


if __name__ == "__main__":
    main()
