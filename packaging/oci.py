#!/usr/bin/env python3
"""Writes an OCI image archive from folders, one layer each, without an engine.

The same folders give the same bytes: names are sorted, times are those of --created, owners are root but for --own.

    oci.py --output image.tar --architecture amd64 --created 1795348800 --config config.json LAYER...

--config holds the `config` object of the image (User, Entrypoint, Labels and so on).
"""

import argparse
import datetime
import gzip
import hashlib
import io
import json
import os
import sys
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True)
    parser.add_argument("--architecture", required=True)
    parser.add_argument("--created", required=True, type=int, help="seconds since 1970")
    parser.add_argument("--config", required=True, help="file with the config object of the image")
    parser.add_argument("--name", default="zkbridge:latest", help="reference in the index")
    parser.add_argument("--own", action="append", default=[], metavar="PATH:UID:GID:MODE", help="owner of a path")
    parser.add_argument("layer", nargs="+", help="folder")
    return parser.parse_args()


def owners(texts):
    """Path → (uid, gid, mode)."""
    found = {}
    for text in texts:
        try:
            path, uid, gid, mode = text.split(":")
            found[path.strip("/")] = (int(uid), int(gid), int(mode, 8))
        except ValueError:
            sys.exit(f"oci: --own {text}: give PATH:UID:GID:MODE, such as /var/lib/zkbridge:65532:0:0770")
    return found


def entries(folder):
    """Every path below a folder, parents first, in a fixed order."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in sorted(folders + files):
            yield os.path.join(parent, name)
        for name in links:
            folders.remove(name)


def layer(folder, created, own):
    """The tar of a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(entries(folder)):
            name = os.path.relpath(path, folder)
            info = tar.gettarinfo(path, arcname=name)
            if info is None or info.islnk():
                sys.exit(f"oci: {path} is neither a file, a folder nor a symbolic link")
            info.uid, info.gid, info.mode = own.get(name, (0, 0, info.mode))
            info.uname = info.gname = ""
            info.mtime = created
            if info.isfile():
                with open(path, "rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
    return out.getvalue()


def compressed(data):
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9, mtime=0, filename="") as file:
        file.write(data)
    return out.getvalue()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def as_json(document):
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


class Archive:
    """The files of an image layout."""

    def __init__(self):
        self.files = {"oci-layout": as_json({"imageLayoutVersion": "1.0.0"})}

    def add(self, kind, data):
        """Adds a blob. Returns its descriptor."""
        name = digest(data)
        self.files["blobs/" + name.replace(":", "/")] = data
        return {"mediaType": kind, "digest": name, "size": len(data)}

    def write(self, file, created):
        with tarfile.open(file, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for folder in ("blobs", "blobs/sha256"):
                info = tarfile.TarInfo(folder)
                info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, created
                tar.addfile(info)
            for name in sorted(self.files):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(self.files[name]), created
                tar.addfile(info, io.BytesIO(self.files[name]))


def main():
    args = arguments()
    own = owners(args.own)
    time = datetime.datetime.fromtimestamp(args.created, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    archive = Archive()
    layers, diffs = [], []
    for folder in args.layer:
        data = layer(folder, args.created, own)
        diffs.append(digest(data))
        layers.append(archive.add(LAYER, compressed(data)))
    with open(args.config, encoding="utf-8") as file:
        config = json.load(file)
    image = {
        "architecture": args.architecture,
        "os": "linux",
        "created": time,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diffs},
        "history": [{"created": time, "created_by": f"layer {index + 1}"} for index in range(len(diffs))],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": archive.add(CONFIG, as_json(image)),
        "layers": layers,
        "annotations": {key: value for key, value in config.get("Labels", {}).items()},
    }
    described = archive.add(MANIFEST, as_json(manifest))
    described["platform"] = {"architecture": args.architecture, "os": "linux"}
    described["annotations"] = {"org.opencontainers.image.ref.name": args.name}
    archive.files["index.json"] = as_json({"schemaVersion": 2, "manifests": [described]})
    archive.write(args.output, args.created)


if __name__ == "__main__":
    main()
