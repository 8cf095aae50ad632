// The page in Chromium, against a real bridge and a real ZooKeeper: 'make test-web' runs this.

import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { NARROW_TOKEN, Stage, TOKEN, until } from "./stage.mjs";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const SHOTS = process.env.ZKBRIDGE_SHOTS ?? fileURLToPath(new URL("../../target/page", import.meta.url));
const BOUND_MS = 20_000;
const SCREENS = ["overview", "explorer", "activity", "changes", "diff", "sinks"];
const LOOKS = [
  { name: "light", colorScheme: "light", viewport: { width: 1280, height: 800 } },
  { name: "dark", colorScheme: "dark", viewport: { width: 1280, height: 800 } },
  { name: "phone", colorScheme: "light", viewport: { width: 390, height: 844 } },
];
const HOSTILE = 100;

let stage;
let browser;

before(async () => {
  await mkdir(SHOTS, { recursive: true });
  stage = await Stage.open();
  const zk = stage.zookeeper;
  await zk.create("/config");
  await zk.create("/config/limits", '{"timeout": 250, "id": 12345678901234567890}');
  await zk.create("/config/gone", "soon deleted");
  await zk.create("/config/bad", "rejected");
  await zk.create("/services");
  await zk.create("/services/node-1", "10.0.0.1:80", true);
  await stage.recorded("/services/node-1");
  await zk.set("/config/limits", '{"timeout": 900, "id": 12345678901234567890}');
  await stage.recorded("/config/limits");
  await zk.delete("/config/gone");
  await zk.create("/last", "x");
  await stage.recorded("/last");
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

/** A page that is logged in, with everything that must not happen in `faults`. */
async function open(look = LOOKS[0], token = TOKEN) {
  const context = await browser.newContext({ colorScheme: look.colorScheme, viewport: look.viewport, timezoneId: "Europe/Berlin", locale: "en-GB" });
  context.setDefaultTimeout(BOUND_MS);
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => { faults.push(`dialog: ${dialog.message()}`); void dialog.dismiss(); });
  page.on("console", (message) => {
    if (/Content Security Policy|Trusted Type|Refused/i.test(message.text())) faults.push(message.text());
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol !== "data:" && url.host !== `127.0.0.1:${stage.proxyPort}`) faults.push(`request to ${url}`);
  });
  await page.goto(stage.address);
  if (token) {
    await page.getByLabel("Token").fill(token);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: /^main/ }).waitFor();
  }
  return { page, context, faults };
}

async function show(page, screen, query = "") {
  await page.evaluate((hash) => { location.hash = hash; }, `#/main/${screen}${query}`);
  await page.waitForFunction((name) => document.querySelector("nav [aria-current=page]")?.textContent?.toLowerCase() === name, screen);
  await page.waitForFunction(() => !/Loading…|Decoding…/.test(document.body.innerText));
}

async function violations(page) {
  // The page forbids scripts of others, so axe runs by way of the debugger, which its policy does not bind.
  const debug = await page.context().newCDPSession(page);
  await debug.send("Runtime.evaluate", { expression: await readFile(AXE, "utf8") });
  await debug.detach();
  const found = await page.evaluate(() => window.axe.run(document));
  return found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 160)).join(" | ")}`);
}

const QUERIES = {
  explorer: "?path=%2Fconfig%2Flimits&in=%2Fconfig&tab=diff",
  changes: "?under=%2Fconfig",
  diff: "?under=%2F&a=1",
  sinks: "?sink=audit",
};

for (const look of LOOKS) {
  test(`each screen is readable and has no violation, ${look.name}`, { timeout: 180_000 }, async () => {
    const { page, context, faults } = await open(look);
    await until("a dead letter is kept", async () => (await stage.api("/sinks"))[0].dead_letters > 0);
    for (const screen of SCREENS) {
      await show(page, screen, QUERIES[screen]);
      await page.screenshot({ path: `${SHOTS}/${screen}-${look.name}.png` });
      assert.deepEqual(await violations(page), [], screen);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(wide, 0, `${screen} is wider than the window`);
    }
    await show(page, "explorer", QUERIES.explorer);
    const text = await page.locator("main").innerText();
    assert.match(text, /"timeout": 250/);
    assert.match(text, /"timeout": 900/);
    assert.match(text, /12345678901234567890/);
    assert.deepEqual(faults, []);
    await context.close();
  });
}

test("the slider shows the tree of each moment, and the address holds it", async () => {
  const { page, context, faults } = await open();
  await show(page, "explorer", "?path=%2Fconfig");
  const names = () => page.locator(".tree button").allInnerTexts();
  assert.ok(!(await names()).some((name) => name.includes("gone")));
  const deleted = (await stage.api("/sources/main/changes?under=/config/gone&op=delete")).items[0].seq;
  const slider = page.getByRole("slider", { name: "moment" });
  await slider.fill(String(deleted - 1));
  await page.locator(".tree button", { hasText: "gone" }).waitFor();
  assert.match(page.url(), new RegExp(`at=${deleted - 1}`));
  await page.reload();
  await page.locator(".tree button", { hasText: "gone" }).waitFor();
  // The next change below the selection is the delete.
  await page.keyboard.press("]");
  await page.waitForURL(new RegExp(`at=${deleted}(&|$)`));
  await page.waitForFunction(() => ![...document.querySelectorAll(".tree button")].some((one) => one.textContent.includes("gone")));
  await page.keyboard.press("[");
  await page.waitForFunction((seq) => Number(new URLSearchParams(location.hash.split("?")[1]).get("at")) < seq, deleted);
  await page.keyboard.press("t");
  await page.waitForURL((url) => !url.hash.includes("at="));
  assert.deepEqual(faults, []);
  await context.close();
});

test("a moment has the time of its change, not that of the capture", async () => {
  const { page, context, faults } = await open();
  const update = (await stage.api("/sources/main/changes?under=/config/limits&op=update")).items[0];
  const text = new RegExp(`, ${update.time.changed}$`);
  for (const [screen, query] of [["explorer", `?at=${update.seq}`], ["diff", `?under=%2F&a=${update.seq}`]]) {
    await show(page, screen, query);
    const shown = await page.locator(".moment time").first().getAttribute("datetime");
    assert.equal(Date.parse(shown), Date.parse(update.time.changed));
    if (screen === "explorer") assert.match(await page.getByRole("slider", { name: "moment" }).getAttribute("aria-valuetext"), text);
  }
  assert.deepEqual(faults, []);
  await context.close();
});

test("the keyboard alone reaches a znode, the help and the other screens", async () => {
  const { page, context, faults } = await open();
  await show(page, "explorer", "?path=%2F");
  await page.locator(".tree button", { hasText: "config" }).focus();
  await page.keyboard.press("ArrowRight");
  await page.locator(".tree button", { hasText: "limits" }).waitFor();
  await page.locator(".tree button").first().focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.locator("h2.name", { hasText: "/config/limits" }).waitFor();
  await page.keyboard.press("?");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement?.tagName), "INPUT");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("d");
  await page.getByRole("heading", { name: "Difference" }).waitFor();
  await page.keyboard.press("l");
  await page.getByText("● live").waitFor();
  assert.deepEqual(faults, []);
  await context.close();
});

test("the live view loses and doubles nothing when its connection breaks", { timeout: 90_000 }, async () => {
  const { page, context, faults } = await open();
  await show(page, "changes", "?under=%2Flive&live=1");
  await page.getByText("● live").waitFor();
  const zk = stage.zookeeper;
  await zk.create("/live");
  const paths = [];
  for (let at = 0; at < 40; at++) {
    if (at % 10 === 5) stage.cut();
    const path = `/live/n${String(at).padStart(3, "0")}`;
    await zk.create(path, String(at));
    paths.push(path);
    if (at % 10 === 9) await page.locator(".rows .at", { hasText: path }).waitFor();
  }
  const shown = (await page.locator(".rows .at").allInnerTexts()).filter((path) => path !== "/live").reverse();
  assert.deepEqual(shown, paths);
  assert.deepEqual(faults, []);
  await context.close();
});

test("a diff names each difference with its kind and shows both values", async () => {
  const { page, context, faults } = await open();
  const first = (await stage.api("/sources/main/changes?under=/config/limits&op=update")).items[0].seq - 1;
  await show(page, "diff", `?under=%2Fconfig&a=${first}`);
  await page.locator(".rows button", { hasText: "/config/limits" }).click();
  await page.locator(".lines .taken", { hasText: "250" }).waitFor();
  await page.locator(".lines .added", { hasText: "900" }).waitFor();
  await page.locator(".rows button", { hasText: "/config/gone" }).getByText("deleted").waitFor();
  await page.getByLabel("Kinds").fill("deleted");
  await page.getByRole("button", { name: "Compare" }).click();
  await page.locator(".rows button", { hasText: "/config/limits" }).waitFor({ state: "detached" });
  await page.locator(".rows button", { hasText: "/config/gone" }).getByText("deleted").waitFor();
  assert.deepEqual(faults, []);
  await context.close();
});

test("a wrong token is refused, a one-time link opens one session, and a session ends", async () => {
  const { page, context, faults } = await open(LOOKS[0], null);
  assert.deepEqual(await violations(page), []);
  await page.getByLabel("Token").fill("wrong");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").waitFor();
  const link = await stage.link();
  await page.goto("about:blank");
  await page.goto(link);
  await page.getByRole("heading", { name: /^main/ }).waitFor();
  assert.ok(!page.url().includes("code="), page.url());
  // The bridge forgets the session: the page says so, and goes on where it was after the next login.
  await show(page, "explorer", "?path=%2Fconfig");
  await context.clearCookies();
  await page.locator(".tree button", { hasText: "limits" }).click();
  await page.getByText("The session has ended").waitFor();
  await page.getByLabel("Token").fill(TOKEN);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.locator("h2.name", { hasText: "/config/limits" }).waitFor();
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByLabel("Token").waitFor();
  const answer = await page.evaluate(async () => (await fetch("/api/v1/session")).status);
  assert.equal(answer, 401);
  const other = await browser.newPage();
  await other.goto(link);
  await other.getByRole("alert").waitFor();
  await other.close();
  assert.deepEqual(faults, []);
  await context.close();
});

test("a token that shows some znodes only gets these, with an explanation", async () => {
  const { page, context, faults } = await open(LOOKS[0], NARROW_TOKEN);
  await page.getByText("Your token shows some znodes only").waitFor();
  await show(page, "explorer", "?path=%2Fservices");
  await page.getByRole("alert").first().waitFor();
  assert.doesNotMatch(await page.locator("main").innerText(), /node-1/);
  assert.deepEqual(faults, []);
  await context.close();
});

test("a path without a record is said to have none, and a wrong moment has a remedy", async () => {
  const { page, context, faults } = await open();
  await show(page, "explorer", "?path=%2Fnever");
  await page.getByText("the journal has never seen this path").waitFor();
  await show(page, "explorer", "?path=%2F&at=1795348800");
  await page.getByRole("alert").first().getByText("Help:").waitFor();
  assert.deepEqual(faults, []);
  await context.close();
});

test(`${HOSTILE} hostile names and values run no script and break no screen`, { timeout: 300_000 }, async () => {
  const zk = stage.zookeeper;
  await zk.create("/hostile");
  const shapes = [
    "<script>alert(1)<\\script>", "<img src=x onerror=alert(1)>", "<svg onload=alert(1)>", "javascript:alert(1)", "\"><b onmouseover=alert(1)>",
    "'-alert(1)-'", "${alert(1)}", "{{constructor.constructor('alert(1)')()}}", "\u202egnp.exe", "%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    "__proto__", "constructor", "..", "a\u200bb", "&lt;script&gt;", "<iframe srcdoc=alert(1)>", "<style>*{display:none}", "</pre><script>alert(1)", "<!--", "]]>",
  ];
  const values = [
    "<script>alert(1)</script>", '{"__proto__":{"x":1},"a":"</pre><img src=x onerror=alert(1)>"}', "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><x>&a;</x>",
    "[".repeat(5000) + "]".repeat(5000), "k=<script>alert(1)</script>",
  ];
  const names = Array.from({ length: HOSTILE }, (_, at) => `${shapes[at % shapes.length]} ${at}`.replaceAll("/", "|"));
  for (const [at, name] of names.entries()) await zk.create(`/hostile/${name}`, values[at % values.length]);
  await stage.recorded(`/hostile/${names.at(-1)}`);
  const { page, context, faults } = await open();
  await show(page, "explorer", "?path=%2Fhostile");
  await until("all are listed", async () => (await page.locator(".tree button").count()) === HOSTILE + 1);
  for (let at = 0; at < HOSTILE; at += 1) {
    await show(page, "explorer", `?${new URLSearchParams({ path: `/hostile/${names[at]}`, in: "/hostile", tab: at % 2 ? "diff" : "" })}`);
    await page.locator("section[aria-label=znode] pre").waitFor();
  }
  for (const screen of ["changes", "diff", "activity"]) {
    await show(page, screen, "?under=%2Fhostile&a=1");
    assert.equal(await page.getByRole("heading", { level: 1 }).count(), 1);
  }
  assert.equal(await page.locator("main script, main img, main svg, main iframe, main style").count(), 0);
  assert.deepEqual(faults, []);
  await context.close();
});
