import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const { Pages, EMPTY_PAGES_MAX } = await load("pages");
const { parseWhere, hashOf, ancestors, parentOf } = await load("place");

function reader(pages) {
  const asked = [];
  const read = async (cursor) => {
    asked.push(cursor);
    const at = cursor === null ? 0 : Number(cursor);
    return { items: pages[at], next: at + 1 < pages.length ? String(at + 1) : null };
  };
  return { read, asked };
}

test("each page is asked once, with the cursor of the page before", async () => {
  const { read, asked } = reader([[1, 2], [3]]);
  const pages = new Pages(read);
  await pages.more();
  assert.deepEqual([pages.items, pages.complete], [[1, 2], false]);
  await pages.more();
  await pages.more();
  assert.deepEqual([pages.items, pages.complete], [[1, 2, 3], true]);
  assert.deepEqual(asked, [null, "1"]);
});

test("an empty page that goes on is no end", async () => {
  const { read } = reader([[], [], [7]]);
  const pages = new Pages(read);
  await pages.more();
  assert.deepEqual([pages.items, pages.complete], [[7], true]);
});

test("one step reads a limited number of empty pages", async () => {
  const { read, asked } = reader(Array.from({ length: EMPTY_PAGES_MAX + 5 }, () => []));
  const pages = new Pages(read);
  await pages.more();
  assert.equal(asked.length, EMPTY_PAGES_MAX);
  assert.equal(pages.complete, false);
  await pages.more();
  assert.equal(pages.complete, true);
});

test("a page that fails is asked again with the same cursor", async () => {
  let fails = true;
  const pages = new Pages(async (cursor) => {
    if (cursor === "1" && fails) throw new Error("busy");
    return { items: [cursor], next: cursor === null ? "1" : null };
  });
  await pages.more();
  await assert.rejects(pages.more());
  fails = false;
  await pages.more();
  assert.deepEqual(pages.items, [null, "1"]);
});

test("the address holds any path and comes back as it was", () => {
  for (const path of ["/", "/a b/ä?x=1&y#z%2f", "/<img src=x onerror=alert(1)>", "/\u202e\u0001"]) {
    const where = { source: "a/b#?", screen: "explorer", params: { path, at: "0x1f" } };
    assert.deepEqual(parseWhere(hashOf(where)), where);
  }
  assert.equal(parseWhere("#/main/nothing").screen, "overview");
  assert.equal(parseWhere("#/%E0%A4/x").source, "");
});

test("a path has its ancestors", () => {
  assert.deepEqual(ancestors("/a/b"), ["/", "/a", "/a/b"]);
  assert.deepEqual([parentOf("/a/b"), parentOf("/a"), parentOf("/")], ["/a", "/", "/"]);
});
