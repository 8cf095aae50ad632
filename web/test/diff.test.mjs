import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const { diffLines, EDITS_MAX } = await load("diff");

const side = (lines, sign) => lines.filter((line) => line.sign !== sign).map((line) => line.text);

/** The fewest edits by the plain table. */
function fewest(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = a[i - 1] === b[j - 1] ? row[j - 1] : 1 + Math.min(row[j], next[j - 1]);
    }
    row = next;
  }
  return row[b.length];
}

test("a changed line is removed and added in its place", () => {
  const lines = diffLines("a\nb\nc", "a\nB\nc");
  assert.deepEqual(lines.map((line) => line.sign + line.text), [" a", "-b", "+B", " c"]);
});

test("empty texts have no lines", () => {
  assert.deepEqual(diffLines("", ""), []);
  assert.deepEqual(diffLines("", "x").map((line) => line.sign), ["+"]);
  assert.deepEqual(diffLines("x", "").map((line) => line.sign), ["-"]);
});

test("a diff of random texts gives both texts back with the fewest edits", () => {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
  console.log(`SEED=${seed}`);
  let state = seed;
  const random = (below) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >> 8) % below;
  };
  for (let round = 0; round < 2000; round++) {
    const text = () => Array.from({ length: 1 + random(12) }, () => "abc"[random(3)]);
    const [a, b] = [text(), text()];
    const lines = diffLines(a.join("\n"), b.join("\n"));
    assert.deepEqual(side(lines, "+"), a);
    assert.deepEqual(side(lines, "-"), b);
    assert.equal(lines.filter((line) => line.sign !== " ").length, fewest(a, b), `${a} / ${b}`);
  }
});

test("texts with too many edits are removed and added whole", () => {
  const make = (letter) => Array.from({ length: EDITS_MAX }, (_, at) => letter + at);
  const lines = diffLines(make("a").join("\n"), make("b").join("\n"));
  assert.deepEqual(side(lines, "+"), make("a"));
  assert.deepEqual(side(lines, "-"), make("b"));
});
