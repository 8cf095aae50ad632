#!/usr/bin/env python3
"""Unpacks an OCI image archive into a folder, as an engine does, after checking every digest. Prints the image's config.

    unpack.py image.tar FOLDER

A blob whose digest or size is not the described one ends it, and so does a layer that is not the one of the image.
"""

import gzip
import hashlib
import io
import json
import sys
import tarfile


def fail(message):
    sys.exit(f"unpack: {message}")


def blob(archive, described):
    name = described["digest"]
    data = archive.extractfile("blobs/" + name.replace(":", "/")).read()
    if len(data) != described["size"]:
        fail(f"{name} has {len(data)} bytes, {described['size']} are described")
    if "sha256:" + hashlib.sha256(data).hexdigest() != name:
        fail(f"{name} has another digest")
    return data


def main():
    if len(sys.argv) != 3:
        fail("give the archive and a folder")
    with tarfile.open(sys.argv[1]) as archive:
        layout = json.load(archive.extractfile("oci-layout"))
        if layout["imageLayoutVersion"] != "1.0.0":
            fail(f"the layout has version {layout['imageLayoutVersion']}")
        manifests = json.load(archive.extractfile("index.json"))["manifests"]
        if len(manifests) != 1:
            fail(f"{len(manifests)} images are in the archive")
        manifest = json.loads(blob(archive, manifests[0]))
        image = json.loads(blob(archive, manifest["config"]))
        for described, diff in zip(manifest["layers"], image["rootfs"]["diff_ids"], strict=True):
            data = gzip.decompress(blob(archive, described))
            if "sha256:" + hashlib.sha256(data).hexdigest() != diff:
                fail(f"the layer {described['digest']} is not the one of the image")
            with tarfile.open(fileobj=io.BytesIO(data)) as layer:
                # With the owners of the layer, which needs root. The archive is one of ours: nothing in it is left out.
                layer.extraction_filter = lambda member, _: member
                layer.extractall(sys.argv[2], numeric_owner=True)
    print(json.dumps(image["config"]))


if __name__ == "__main__":
    main()
