// The two images of the README, from a real bridge: 'make test-web' makes them anew and compares what can be compared,
// 'ZKBRIDGE_UPDATE_IMAGES=1 make test-web' writes them into docs/images.

import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { Stage, TOKEN } from "./stage.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const BOUND_MS = 60_000;
const BYTES_MAX = 150_000;
const VIEW = { width: 1200, height: 720 };
const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

let stage;
let browser;
let seq;

before(async () => {
  stage = await Stage.open();
  const zk = stage.zookeeper;
  const limits = (timeout, retries) => JSON.stringify({ timeout, retries, hosts: ["db1:5432", "db2:5432"] }, null, 2);
  for (const path of ["/config", "/config/payments", "/config/orders", "/config/search", "/services", "/services/payments"]) {
    await zk.create(path);
  }
  await zk.create("/config/payments/limits", limits(250, 3));
  await zk.create("/config/payments/currency", "EUR");
  await zk.create("/config/payments/experiment", "on");
  await zk.create("/config/orders/flags", '{"express": true}');
  for (const host of ["10.0.0.7:8080", "10.0.0.8:8080", "10.0.0.9:8080"]) await zk.create(`/services/payments/${host}`, '{"weight": 1}', true);
  await stage.recorded("/services/payments/10.0.0.9:8080");
  await zk.set("/config/payments/limits", limits(400, 3));
  await stage.recorded("/config/payments/limits");
  await zk.delete("/services/payments/10.0.0.8:8080");
  await zk.set("/config/payments/limits", limits(900, 5));
  await zk.delete("/config/payments/experiment");
  await zk.create("/config/search/index", "v2");
  await stage.recorded("/config/search/index");
  seq = (await stage.api("/sources/main/moment")).tail;
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
}, { timeout: 180_000 });

after(async () => {
  await browser?.close();
  await stage?.close();
});

function sizeOf(png) {
  assert.ok(png.subarray(0, 8).equals(PNG), "it is no PNG");
  return { width: png.readUInt32BE(16), height: png.readUInt32BE(20) };
}

const IMAGES = [
  { name: "explorer", hash: () => "#/main/explorer?path=%2Fconfig%2Fpayments%2Flimits&in=%2Fconfig%2Fpayments&tab=diff", words: [/400/, /900/, /exact/] },
  { name: "changes", hash: () => `#/main/changes?from=${Math.max(1, seq - 14)}`, words: [/delete/, /experiment/, /10\.0\.0\.8/] },
];

for (const { name, hash, words } of IMAGES) {
  test(`the image ${name} of the README shows the page`, { timeout: 180_000 }, async () => {
    const context = await browser.newContext({ colorScheme: "light", viewport: VIEW, timezoneId: "Europe/Berlin", locale: "en-GB" });
    context.setDefaultTimeout(BOUND_MS);
    const page = await context.newPage();
    await page.goto(stage.address);
    await page.getByLabel("Token").fill(TOKEN);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: /^main/ }).waitFor();
    await page.evaluate((target) => { location.hash = target; }, hash());
    await page.waitForFunction((shown) => document.querySelector("nav [aria-current=page]")?.textContent?.toLowerCase() === shown, name);
    await page.waitForFunction(() => !/Loading…|Decoding…/.test(document.body.innerText));
    const text = await page.locator("main").innerText();
    for (const word of words) assert.match(text, word);
    const image = await page.screenshot();
    await context.close();

    const file = `${ROOT}/docs/images/${name}.png`;
    if (process.env.ZKBRIDGE_UPDATE_IMAGES) {
      await mkdir(`${ROOT}/docs/images`, { recursive: true });
      await writeFile(file, image);
    }
    // Times, zxids and fonts are others each time: the committed image has the same size, and is small.
    const known = await readFile(file);
    assert.deepEqual(sizeOf(known), sizeOf(image));
    assert.ok(known.length < BYTES_MAX, `${known.length} bytes are too many for a README`);
    assert.match(await readFile(`${ROOT}/README.md`, "utf8"), new RegExp(`docs/images/${name}\\.png`));
  });
}
