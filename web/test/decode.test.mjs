import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { load } from "./load.mjs";

const { decode, decodeBytes, decodeText, prettyJson, protobuf, visible, UNPACKED_BYTES_MAX } = await load("decode");

const bytes = (...parts) => Uint8Array.from(parts.flatMap((part) => (typeof part === "string" ? [...Buffer.from(part)] : part)));

test("JSON keeps every digit of its numbers and every escape of its strings", () => {
  const text = '{"big":12345678901234567890.10,"exp":1E+400,"s":"a\\u0041\\"{,","list":[1,[],{ }]}';
  const pretty = prettyJson(text);
  for (const part of ["12345678901234567890.10", "1E+400", '"a\\u0041\\"{,"', "[]", "{}"]) assert.ok(pretty.includes(part), pretty);
  assert.equal(pretty.replace(/\s+/g, ""), text.replace(/\s+/g, ""));
});

test("a text that is no JSON is shown as it is", () => {
  assert.equal(prettyJson("{a:1}"), null);
  assert.equal(decodeText("{a:1}").form, "text");
  assert.equal(decodeText("true love").form, "text");
});

test("properties and XML are recognized", () => {
  assert.equal(decodeText("# c\na.b=1\nc-d: 2").form, "properties");
  assert.equal(decodeText("<?xml version='1.0'?><a/>").form, "XML");
});

test("a gzip value is unpacked, and one that is too large is not", async () => {
  const small = await decodeBytes(gzipSync('{"a":1}'));
  assert.equal(small.form, "gzip: JSON");
  assert.equal(small.text, '{\n  "a": 1\n}');
  const large = await decodeBytes(gzipSync(Buffer.alloc(UNPACKED_BYTES_MAX + 1, 97)));
  assert.match(large.form, /too large/);
  const cut = await decodeBytes(gzipSync("hello hello").subarray(0, 15));
  assert.match(cut.form, /damaged, cut/);
});

test("protobuf is shown by its wire format as a guess, and HBase's prefix makes it certain", async () => {
  const message = bytes([0x08, 0x96, 0x01, 0x12, 0x03], "abc", [0x1a, 0x02, 0x08, 0x01]);
  assert.equal(protobuf(message), '1: 150\n2: "abc"\n3 {\n  1: 1\n}');
  const guess = await decodeBytes(message);
  assert.deepEqual([guess.form, guess.perhaps], ["protobuf", true]);
  const hbase = await decodeBytes(bytes([0xff, 0, 0, 0, 3], "id1", "PBUF", [...message]));
  assert.deepEqual([hbase.form, hbase.perhaps], ["HBase protobuf (PBUF)", undefined]);
});

test("Java serialization is named and shown as hex, never read", async () => {
  const java = await decodeBytes(bytes([0xac, 0xed, 0, 5], "sr"));
  assert.match(java.form, /never read/);
  assert.match(java.text, /^000000 {2}ac ed 00 05 73 72/);
});

test("data of each encoding has a form", async () => {
  assert.equal((await decode({ encoding: "utf8", size: 0, value: "" })).form, "no data");
  assert.equal((await decode({ encoding: "utf8", size: 9, value: "hmac", masked: true })).form, "masked");
  assert.equal((await decode({ encoding: "json", size: 2, value: [1] })).form, "JSON");
  assert.equal((await decode({ encoding: "base64", size: 2, value: "/wA=" })).form, "bytes");
});

test("random bytes never break a decoder", async () => {
  let state = Number(process.env.SEED ?? Date.now() % 2 ** 31);
  console.log(`SEED=${state}`);
  for (let round = 0; round < 2000; round++) {
    const some = Uint8Array.from({ length: round % 64 }, () => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
      return state >> 16;
    });
    const prefix = [[], [0x1f, 0x8b], [0xff], [0xac, 0xed], [...Buffer.from("PBUF")]][round % 5];
    const decoded = await decodeBytes(bytes(prefix, [...some]));
    assert.ok(decoded.form.length > 0);
  }
});

test("control and direction characters of a name are visible", () => {
  assert.equal(visible("a\u202eb\u0000\n\u200b"), "a\\u202eb\\u0000\\u000a\\u200b");
  assert.equal(visible("äöü 漢字"), "äöü 漢字");
});
