// Keys of the console: a key presses the button or follows the link that names it in data-key.
"use strict";

(() => {
  // A second press of a key that settled the last alert must not settle the one that just opened.
  const GUARD_MS = 400;
  const NEWER_EVERY_MS = 5000;
  const rows = [...document.querySelectorAll("[data-row]")];
  let marked = -1;

  function mark(place) {
    if (!rows.length) return;
    rows[marked]?.removeAttribute("aria-selected");
    marked = Math.min(Math.max(place, 0), rows.length - 1);
    rows[marked].setAttribute("aria-selected", "true");
    rows[marked].querySelector("[data-open]").focus({ preventScroll: true });
    rows[marked].scrollIntoView({ block: "nearest" });
  }

  function press(key) {
    const target = document.querySelector(`[data-key="${CSS.escape(key)}"]:not([hidden])`);
    const isEarly = !document.body.dataset.armed;
    if (!target || (isEarly && "guarded" in target.dataset)) return false;
    target.click();
    return true;
  }

  function inQueue(key) {
    if (!rows.length) return false;
    if (key === "j") mark(marked + 1);
    else if (key === "k") mark(marked - 1);
    else if (key === "o" && marked >= 0) rows[marked].querySelector("[data-open]").click();
    else return false;
    return true;
  }

  function isTyping(target) {
    return target instanceof Element && target.closest("input, textarea, select, dialog[open]");
  }

  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "/") document.querySelector(".search input[type=search]")?.focus();
    else if (!inQueue(event.key) && !press(event.key)) return;
    event.preventDefault();
  });

  for (const button of document.querySelectorAll("[data-opens]")) {
    button.addEventListener("click", () => document.getElementById(button.dataset.opens).showModal());
  }

  // One disposition for one page: a double click sends one form.
  for (const form of document.querySelectorAll("form[data-once]")) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) event.preventDefault();
      form.dataset.sent = "yes";
    });
  }
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-once]")) delete form.dataset.sent;
  });

  // The server refuses card numbers too; here they do not even leave the browser.
  function looksLikePan(text) {
    for (const [run] of text.normalize("NFKC").matchAll(/\d(?:[\s.\-_/]?\d){11,}/gu)) {
      const digits = run.replace(/\D/g, "");
      for (let start = 0; start + 12 <= digits.length; start++) {
        for (let end = start + 12; end <= Math.min(start + 19, digits.length); end++) {
          if (hasLuhnCheck(digits.slice(start, end))) return true;
        }
      }
    }
    return false;
  }

  function hasLuhnCheck(digits) {
    let total = 0;
    for (let place = 0; place < digits.length; place++) {
      const digit = Number(digits[digits.length - 1 - place]) * (1 + (place % 2));
      total += digit > 9 ? digit - 9 : digit;
    }
    return total % 10 === 0 && /^[2-6]/.test(digits);
  }

  const search = document.querySelector("form[data-pan-refused]");
  search?.addEventListener("submit", (event) => {
    const isPan = looksLikePan(search.elements.q.value);
    search.querySelector(".search-refusal").hidden = !isPan;
    if (!isPan) return;
    search.elements.q.value = "";
    event.preventDefault();
  });

  // Rows never move under the eyes: newer alerts are announced, and shown when asked for.
  const newer = document.querySelector("[data-newer]");
  async function announceNewer() {
    if (document.hidden) return;
    const response = await fetch(`${newer.dataset.newer}?after=${newer.dataset.after}`);
    if (!response.ok || response.redirected) return;
    const count = (await response.json()).newer;
    newer.hidden = count === 0;
    newer.querySelector("span").textContent = count === 1 ? "1 new alert" : `${count} new alerts`;
  }
  if (newer) setInterval(() => announceNewer().catch(() => {}), NEWER_EVERY_MS);

  setTimeout(() => { document.body.dataset.armed = "yes"; }, GUARD_MS);
  if (rows.length) mark(0);
})();
