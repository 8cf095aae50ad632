import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const web = fileURLToPath(new URL("..", import.meta.url));

test("dist is what src builds, byte by byte", () => {
  const out = mkdtempSync(join(tmpdir(), "zkbridge-dist-"));
  try {
    execFileSync(process.execPath, [join(web, "build.mjs"), out]);
    const names = readdirSync(out).sort();
    assert.deepEqual(names, ["index.html", "page.css", "page.js"]);
    assert.deepEqual(readdirSync(join(web, "dist")).sort(), names);
    for (const name of names) {
      const same = readFileSync(join(out, name)).equals(readFileSync(join(web, "dist", name)));
      assert.ok(same, `${name} differs: run 'make web' and commit web/dist`);
    }
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
});

test("the lock file holds no address of a registry", () => {
  assert.doesNotMatch(readFileSync(join(web, "package-lock.json"), "utf8"), /"resolved"/);
});
