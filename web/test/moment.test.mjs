process.env.TZ = "Europe/Berlin";
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const { typedMoment } = await load("moment");
/** 14:43:20 in Berlin. */
const NOW = new Date("2026-11-22T13:43:20Z");
const typed = (name, text, utc = false) => typedMoment(name, text, utc, NOW);
const same = (name, text, moment) => {
  const given = typed(name, text);
  assert.match(given, /[+-]\d\d:\d\d$/, text);
  assert.equal(new Date(given).toISOString(), moment, text);
};

test("a typed time is one of the zone that the page shows", () => {
  same("at", "2026-11-22 13:17:40", "2026-11-22T12:17:40.000Z");
  same("at", "2026-11-22T13:17", "2026-11-22T12:17:00.000Z");
  same("from", "13:17:40.25", "2026-11-22T12:17:40.250Z");
  same("a", "2026-07-01 12:00", "2026-07-01T10:00:00.000Z");
});

test("a time of day that is still to come is that of yesterday", () => {
  same("at", "14:43", "2026-11-22T13:43:00.000Z");
  same("at", "14:44", "2026-11-21T13:44:00.000Z");
});

test("a date is a day of the zone that the page shows, whole at the end of a range", () => {
  same("from", "2026-11-22", "2026-11-21T23:00:00.000Z");
  same("to", "2026-11-22", "2026-11-22T22:59:59.999Z");
  same("to", "yesterday", "2026-11-21T22:59:59.999Z");
  same("from", "today", "2026-11-21T23:00:00.000Z");
});

test("all else is given to the API as it is, and so are times where the page shows UTC", () => {
  for (const text of ["", "now", "15m", "1842", "0x300001a2f", "2026-11-22T13:40:00Z", "13:40 local", "25:00", "2026-02-31 10:00"]) {
    assert.equal(typed("at", text), text);
  }
  assert.equal(typed("at", "13:17", true), "13:17");
  assert.equal(typed("text", "13:17"), "13:17");
});
