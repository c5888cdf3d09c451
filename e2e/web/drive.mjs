// What `e2e/web/run` does with a real Chromium.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.CACHE, "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const pictures = process.argv[2];
if (pictures) mkdirSync(pictures, { recursive: true });

const step = (text) => console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(6)} s  ${text}`);
const began = Date.now();

// A demo that serves its page, and the address with its key.
const serve = async () => {
  const demo = spawn(process.env.SERIN, ["demo", "--dashboard", "0", "--no-color", "--speed", process.env.SPEED ?? "0.6"], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  const address = await new Promise((resolve, reject) => {
    demo.stdout.on("data", (chunk) => {
      text += chunk;
      const found = text.match(/http:\/\/127\.0\.0\.1:\d+\/\?key=[\w-]+/);
      if (found) resolve(found[0]);
    });
    demo.on("exit", () => reject(new Error(`the demo has ended: ${text}`)));
  });
  return { demo, address };
};

// Builds of a busy machine are slow.
const patient = async (browser, options) => {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(120_000);
  return context;
};

// A page whose requests and complaints are recorded.
const open = async (browser, options, address) => {
  const context = await patient(browser, options);
  const page = await context.newPage();
  const asked = [];
  const wrong = [];
  page.on("request", (one) => asked.push(one.url()));
  page.on("console", (one) => one.type() === "error" && wrong.push(one.text()));
  page.on("pageerror", (error) => wrong.push(String(error)));
  await page.goto(address);
  return { context, page, asked, wrong };
};

// What axe finds wrong, by its rules of WCAG 2.2 A and AA and its good practices.
const accessible = async (page, what) => {
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  const told = found.violations.map((one) => `${one.id}: ${one.help}\n    ${one.nodes.slice(0, 4).map((node) => `${node.html.slice(0, 160)}\n      ${node.failureSummary?.split("\n").join(" ")}`).join("\n    ")}`);
  assert.equal(told.length, 0, `${what}:\n  ${told.join("\n  ")}`);
  return found.passes.length;
};

// Nothing is wider than the screen but what scrolls by itself.
const fits = async (page, what) => {
  const [own, screen] = await page.evaluate(() => [document.scrollingElement.scrollWidth, innerWidth]);
  assert.ok(own <= screen, `${what} is ${own} wide on a screen of ${screen}`);
};

const shoot = async (page, name, whole = true) => {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: whole });
};

// The browser first: the story does not wait for it.
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const { demo, address } = await serve();
const origin = new URL(address).origin;
try {
  const desktop = { viewport: { width: 1280, height: 900 } };
  const { page, asked, wrong, context } = await open(browser, desktop, address);
  assert.equal(page.url(), `${origin}/`, "the key does not stay in the address");
  const cookies = await context.cookies();
  assert.ok(cookies.length === 1 && cookies[0].httpOnly && cookies[0].sameSite === "Strict", JSON.stringify(cookies));

  step("the list comes to life by itself");
  await page.evaluate(() => { globalThis.same = true; });
  await page.locator("tbody tr", { hasText: "checkout" }).waitFor();
  await page.locator(".badge", { hasText: /Progressing|Degraded/ }).waitFor({ timeout: 180_000 });
  assert.ok(await page.evaluate(() => globalThis.same), "it was not loaded again");
  assert.equal(await page.locator("#state").textContent(), "Live");

  step("by keyboard: over the skip link and through the list to the Rollout");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to content");
  assert.ok(await page.evaluate(() => document.activeElement.getBoundingClientRect().left >= 0), "it is seen");
  await page.keyboard.press("Enter");
  for (let at = 0; at < 20 && !(await page.evaluate(() => document.activeElement.matches("tbody a"))); at++) await page.keyboard.press("Tab");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, "solid", "focus is seen");
  await page.keyboard.press("Enter");
  await page.waitForURL(/rollouts\/shop\/checkout$/);

  step("a canary: its lanes are drawn while it goes on, and what is open stays open");
  await page.evaluate(() => { globalThis.same = true; });
  await page.locator("summary", { hasText: "Weights as a table" }).click();
  const rows = page.locator("figure details[open] tbody tr");
  await rows.filter({ hasText: "20%" }).first().waitFor({ timeout: 180_000 });
  await page.locator(".steps [aria-current=step]").waitFor();
  await rows.filter({ hasText: "50%" }).first().waitFor({ timeout: 180_000 });
  assert.ok(await page.evaluate(() => globalThis.same), "it was not loaded again");
  await page.locator('svg.lane[aria-label*="50% from"]').waitFor();
  const told = await page.locator("svg.lane[role=img]").first().getAttribute("aria-label");
  assert.match(told, /Weight of the canary in force, from .*20% from .*50% from/);
  assert.ok((await page.locator("svg .observed line").count()) >= 3, "stairs");
  assert.match(await page.locator("#told").textContent(), /^checkout: /);
  await page.locator(".marker").first().waitFor();

  step("paused updates stay paused");
  const hold = page.locator("#hold");
  await hold.focus();
  await page.keyboard.press("Enter");
  assert.equal(await hold.getAttribute("aria-pressed"), "true");
  const before = await page.locator("#now").innerText();
  await page.waitForTimeout(3_000);
  assert.equal(await page.locator("#now").innerText(), before);
  await hold.press("Enter");

  step("on a phone and in the dark, each fits and can be read");
  for (const scheme of ["light", "dark"]) {
    for (const [name, viewport] of [["phone", { width: 375, height: 812 }], ["small", { width: 320, height: 640 }]]) {
      const phone = await patient(browser, { viewport, colorScheme: scheme, deviceScaleFactor: 2, reducedMotion: "reduce", storageState: await context.storageState() });
      const small = await phone.newPage();
      for (const [what, path] of [["list", "/"], ["rollout", "/rollouts/shop/checkout"], ["plan", "/rollouts/shop/checkout/simulate"]]) {
        await small.goto(origin + path);
        await fits(small, `${what} on ${name}`);
        const rules = await accessible(small, `${what} on ${name}, ${scheme}`);
        assert.ok(rules > 20, "axe has looked");
        if (name === "phone") await shoot(small, `${what}-phone-${scheme}`);
      }
      const moves = await small.evaluate(() => [...document.querySelectorAll("*")].some((one) => parseFloat(getComputedStyle(one).transitionDuration) > 0));
      assert.equal(moves, false, "nothing moves for those who want that");
      await phone.close();
    }
  }

  step("the good release is promoted, the bad one aborted");
  await page.goto(`${origin}/rollouts/shop/checkout`);
  await page.locator("#history td", { hasText: "Aborted" }).waitFor({ timeout: 180_000 });
  await page.locator("#now .badge", { hasText: "Degraded" }).waitFor();
  await page.locator("#now .side, #now dd", { hasText: "0% of traffic" }).first().waitFor();
  await page.waitForTimeout(3_000);
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const [what, path] of [["list", "/"], ["rollout", "/rollouts/shop/checkout"], ["hour", "/rollouts/shop/checkout?span=15m"], ["compare", "/rollouts/shop/checkout?compare=good"], ["plan", "/rollouts/shop/checkout/simulate?scenario=errors-from%3D50%25"]]) {
      await page.goto(origin + path);
      await accessible(page, `${what}, ${scheme}`);
      await shoot(page, `${what}-${scheme}`);
    }
  }

  // The picture of docs/kubectl-serin/dashboard.md.
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 860, height: 1560 });
  await page.goto(`${origin}/rollouts/shop/checkout`);
  await shoot(page, "dashboard", false);
  await page.setViewportSize(desktop.viewport);

  step("it acts: a retry, its reason half typed while the page goes on");
  await page.emulateMedia({ colorScheme: "light" });
  await page.goto(`${origin}/rollouts/shop/checkout`);
  await page.locator("#act summary", { hasText: "Retry" }).press("Enter");
  await page.locator("#act input[name=reason]").pressSequentially("seen in the browser", { delay: 120 });
  await page.keyboard.press("Enter");
  await page.waitForURL(/action=/);
  await page.locator("#act [role=status]", { hasText: "Done: " }).waitFor({ timeout: 60_000 });
  await page.locator("#decisions td", { hasText: "seen in the browser" }).waitFor();

  step("nobody else was asked, and nothing was refused by the page's own policy");
  assert.deepEqual([...new Set(asked.map((url) => new URL(url).origin))], [origin]);
  assert.deepEqual(wrong, []);

  step("without scripts it is loaded again by itself");
  const plain = await patient(browser, { javaScriptEnabled: false, storageState: await context.storageState() });
  const still = await plain.newPage();
  let loads = 0;
  still.on("load", () => { loads += 1; });
  await still.goto(`${origin}/rollouts/shop/checkout`);
  assert.match(await still.locator("#state").textContent(), /every 10 seconds/);
  assert.equal(await still.locator("#hold").isVisible(), false);
  for (let at = 0; at < 60 && loads < 2; at++) await still.waitForTimeout(500);
  assert.ok(loads >= 2, `${loads} loads`);
  await plain.close();

  step("other sites ask in vain");
  const evil = createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<!doctype html><title>evil</title>"));
  await new Promise((resolve) => evil.listen(0, "127.0.0.1", resolve));
  const elsewhere = await context.newPage();
  await elsewhere.goto(`http://127.0.0.1:${evil.address().port}/`);
  const read = await elsewhere.evaluate((url) => fetch(url, { credentials: "include" }).then((answer) => answer.text(), () => "refused"), `${origin}/`);
  assert.equal(read, "refused", "a page of the same machine reads nothing");
  const blind = elsewhere.waitForResponse((answer) => answer.url().startsWith(origin));
  await elsewhere.evaluate((url) => {
    const form = document.createElement("form");
    form.method = "post";
    form.action = url;
    form.innerHTML = "<input name=revision value=a><input name=step value=null>";
    document.body.append(form);
    setTimeout(() => form.submit(), 0);
  }, `${origin}/rollouts/shop/checkout/abort`);
  assert.equal((await blind).status(), 403, "a form of another page does nothing");
  evil.close();
  const rebound = await new Promise((resolve) => {
    const { port } = new URL(origin);
    request({ host: "127.0.0.1", port, path: "/", headers: { host: `rebound.example:${port}` } }, (answer) => resolve(answer.statusCode)).end();
  });
  assert.equal(rebound, 421, "a name that was turned to this machine is refused");
  const stranger = await patient(browser, {});
  const refused = await (await stranger.newPage()).goto(`${origin}/`);
  assert.equal(refused.status(), 401, "without the key nothing is shown");

  step("the page says when its command has ended");
  demo.removeAllListeners("exit");
  demo.kill("SIGINT");
  await page.locator("#state", { hasText: "Not live" }).waitFor({ timeout: 60_000 });
  step("ok");
} finally {
  await browser.close();
  demo.removeAllListeners("exit");
  demo.kill("SIGKILL");
}
