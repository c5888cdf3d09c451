// Keeps a page fresh: each change that the server tells of, the page is fetched again, and the parts that differ are put in its place.
// What a person has open, focused or half-typed stays.
"use strict";

(() => {
  const path = document.body.dataset.changes;
  const state = document.getElementById("state");
  const hold = document.getElementById("hold");
  if (!path || !state || !hold) return;

  const EVERY = 15000;
  let source = null;
  let timer = 0;
  let held = false;
  let busy = false;
  let again = false;

  const say = (text) => {
    if (state.textContent !== text) state.textContent = text;
  };

  // What would be lost with an element: a field that somebody writes in, a form that somebody has opened.
  const isInUse = (element) => {
    const active = document.activeElement;
    return element.querySelector("details[open] form") !== null || (element.contains(active) && active.matches("input, select, textarea"));
  };

  const put = (old, fresh) => {
    if (old.isEqualNode(fresh) || isInUse(old)) return;
    const focusable = "a[href], button, summary, input, [tabindex]";
    const place = [...old.querySelectorAll(focusable)].indexOf(document.activeElement);
    const name = (one) => one.querySelector("summary")?.textContent;
    const open = new Set([...old.querySelectorAll("details[open]")].map(name));
    const scrolled = [...old.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    old.replaceChildren(...fresh.childNodes);
    old.querySelectorAll("details").forEach((one) => { one.open = open.has(name(one)); });
    old.querySelectorAll(".scroll").forEach((one, at) => { one.scrollLeft = scrolled[at] ?? 0; });
    if (place >= 0) old.querySelectorAll(focusable)[place]?.focus({ preventScroll: true });
  };

  const closed = (element) => {
    const copy = element.cloneNode(true);
    copy.querySelectorAll("details[open]").forEach((one) => one.removeAttribute("open"));
    return copy;
  };

  const refresh = async () => {
    if (held || document.hidden) return;
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error" });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!answer.ok) throw new Error(fresh.querySelector("main")?.innerText.trim() || answer.statusText);
      for (const part of document.querySelectorAll("[data-live]")) {
        const now = fresh.getElementById(part.id);
        if (now && !closed(part).isEqualNode(now)) put(part, now);
      }
      const told = fresh.getElementById("told")?.textContent;
      const own = document.getElementById("told");
      if (own && told !== undefined && own.textContent !== told) own.textContent = told;
      say("Live");
    } catch (error) {
      say(`Not live: ${error.message}`);
    } finally {
      busy = false;
      if (again) {
        again = false;
        refresh();
      }
    }
  };

  const stop = () => {
    source?.close();
    source = null;
    clearInterval(timer);
  };

  const start = () => {
    stop();
    if (held || document.hidden) return;
    source = new EventSource(path);
    source.onopen = refresh;
    source.onmessage = refresh;
    source.onerror = () => say("Not live: the dashboard does not answer; is its command still running?");
    timer = setInterval(refresh, EVERY);
  };

  hold.hidden = false;
  hold.addEventListener("click", () => {
    held = !held;
    hold.setAttribute("aria-pressed", String(held));
    if (held) {
      stop();
      say("Updates are paused");
    } else {
      start();
    }
  });
  document.addEventListener("visibilitychange", start);
  // A page that is left keeps no connection; one that is come back to has one again.
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", start);
  start();
})();
