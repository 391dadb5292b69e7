"use strict";
/* One participant's way through a sheet. Two modes: "server" sends each answer and keeps sending until it is
   acknowledged; "file" keeps the answers here and hands them back as a file. Everything shown is set as text. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const server = data.mode === "server";
  const KEY = "sigan-study:" + data.study;
  const SETTLE = 250;            // ms after the pictures appear in which a second tap or a held key is no answer
  const LONGEST = 3600000;       // ms that an answer may claim
  const RETRY = [1000, 2000, 4000, 8000, 15000];
  const $ = (id) => document.getElementById(id);
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

  /* What is kept over a reload. */
  let state = { participant: "", sheet: 0, position: 0, answers: [], queue: [], started: 0, finished: 0,
                practised: "unsaid", language: "" };
  let keeps = true, sheet = [], open = false, shownAt = 0, hiddenSince = 0, away = 0, sending = false;

  function load() {
    try { state = { ...state, ...JSON.parse(localStorage.getItem(KEY) || "{}") }; } catch { keeps = false; }
  }
  function save() {
    try { localStorage.setItem(KEY, JSON.stringify(state)); } catch { keeps = false; }
  }

  /* ---- words */

  const text = (key, values = {}) =>
    (data.texts[state.language][key] || "").replace(/\{(\w+)\}/g, (whole, name) => name in values ? values[name] : whole);

  function speak(language) {
    state.language = language;
    save();
    document.documentElement.lang = language === "zh" ? "zh-Hans" : language;
    document.title = text("title");
    const values = { count: data.length, minutes: data.minutes };
    for (const node of document.querySelectorAll("[data-text]")) node.textContent = text(node.dataset.text, values);
    for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", text(node.dataset.label));
    $("consent-mode").textContent = text(server ? "consent_server" : "consent_file");
    $("photograph").firstElementChild.alt = text("photograph");
    for (const button of $("languages").children)
      button.setAttribute("aria-pressed", String(button.dataset.language === language));
    if (!$("trial").hidden) progress();
    if (!$("end").hidden) finish();
    if (noticed) notice(noticed);
  }

  let noticed = "";
  function notice(key, values = {}) {
    noticed = key;
    $("notice").hidden = !key;
    $("notice").textContent = key ? text(key, values) : "";
  }

  function view(name) {
    for (const id of ["welcome", "trial", "end"]) $(id).hidden = id !== name;
    window.scrollTo(0, 0);
  }

  /* ---- one pair */

  const url = (picture) => server ? "pictures/" + picture + data.suffix : data.pictures[picture];

  async function ready(img, picture, wanted) {
    for (let tries = 0; wanted(); tries++) {
      img.src = url(picture);
      try { await img.decode(); return; } catch { if (!wanted()) return; }
      notice("broken_picture");
      await sleep(RETRY[Math.min(tries, RETRY.length - 1)]);
      img.removeAttribute("src");
    }
  }

  function progress() {
    const values = { done: Math.min(state.position + 1, data.length), count: data.length };
    $("count").textContent = text("progress", values);
    $("bar").setAttribute("aria-valuemax", data.length);
    $("bar").setAttribute("aria-valuenow", state.position);
    $("done-part").style.width = 100 * state.position / data.length + "%";
  }

  async function show() {
    open = false;
    if (state.finished || state.position >= data.length) return finish();
    if (document.activeElement && document.activeElement !== document.body) document.activeElement.blur();
    view("trial");
    progress();
    const position = state.position, [photograph, left, right] = sheet[position];
    $("pair").classList.add("waiting");
    const wanted = () => position === state.position && !state.finished;
    await Promise.all([["left", left], ["right", right], ["photograph", photograph]]
      .map(([id, picture]) => picture && ready($(id).firstElementChild, picture, wanted)));
    if (noticed === "broken_picture") notice("");
    if (!wanted()) return;
    $("pair").classList.remove("waiting");
    shownAt = performance.now();
    away = 0;
    hiddenSince = document.hidden ? shownAt : 0;
    for (const next of sheet.slice(position + 1, position + 3))
      for (const picture of next) if (picture && server) new Image().src = url(picture);
    await sleep(SETTLE);
    if (position === state.position) open = true;
  }

  function choose(choice) {
    if (!open || $("trial").hidden) return;
    open = false;
    const now = performance.now(), [, left, right] = sheet[state.position];
    const ms = Math.round(now - shownAt - away - (hiddenSince ? now - hiddenSince : 0));
    const answer = { position: state.position, left, right, choice, ms: Math.max(0, Math.min(ms, LONGEST)) };
    (server ? state.queue : state.answers).push(answer);
    state.position += 1;
    if (state.position >= data.length) state.finished = Date.now();
    save();
    if (server) send();
    show();
  }

  /* ---- the server */

  async function ask(path, body) {
    const headers = { "Content-Type": "application/json" };
    if (state.participant) headers.Authorization = "Bearer " + state.participant;
    const reply = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), cache: "no-store" });
    let content = {};
    try { content = await reply.json(); } catch { /* an error page of something between */ }
    return { status: reply.status, wait: Number(reply.headers.get("Retry-After") || 0), ...content };
  }

  /* Tries until the server has answered something other than "later". */
  async function insist(path, body) {
    for (let tries = 0; ; tries++) {
      let reply = null;
      try { reply = await ask(path, body); } catch { /* no network */ }
      if (reply && reply.status < 500 && reply.status !== 429) { if (noticed === "offline") notice(""); return reply; }
      if (tries > 0 || !reply) notice("offline");
      const pause = reply && reply.wait ? 1000 * reply.wait : RETRY[Math.min(tries, RETRY.length - 1)];
      await sleep(pause);
    }
  }

  async function send() {
    if (sending) return;
    sending = true;
    while (state.queue.length) {
      const reply = await insist("vote", { study: data.study, ...state.queue[0] });
      if (reply.status === 200) { state.queue.shift(); save(); continue; }
      if (reply.status === 409) { await meet(); continue; }   // another tab was here: the server's count holds
      state.queue = [];
      save();
      notice("refused", { reason: reply.error || reply.status });
      await meet();                                // go on where the server's count stands
    }
    sending = false;
    if (!$("end").hidden) finish();
  }

  /* Takes the sheet, and how far it is answered, from the server; false where it does not know us. */
  async function meet() {
    const reply = await insist("me", { study: data.study });
    if (reply.status !== 200) return false;
    sheet = reply.sheet;
    state.queue = state.queue.filter((answer) => answer.position >= reply.answered);
    if (state.queue.length && state.queue[0].position !== reply.answered) state.queue = [];
    const position = reply.answered + state.queue.length;
    if (position !== state.position) { state.position = position; show(); }
    if (position >= data.length && !state.finished) state.finished = Date.now();
    save();
    return true;
  }

  /* ---- beginning and end */

  const random = (bytes) =>
    Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (one) => one.toString(16).padStart(2, "0")).join("");

  async function begin() {
    $("begin").disabled = true;
    state.practised = document.querySelector("input[name=practised]:checked").value;
    if (server) {
      const body = { study: data.study, language: state.language, practised: state.practised };
      if (data.invited) body.invitation = location.hash.slice(1);
      let reply = { status: 0 };
      try { reply = await ask("join", body); } catch { /* no network */ }
      if (reply.status !== 200) {
        const said = { 0: "unreachable", 403: "invitation_missing", 429: "closed", 503: "closed" };
        notice(said[reply.status] || "refused", { reason: reply.error || reply.status });
        $("begin").disabled = false;
        return;
      }
      notice("");
      state.participant = reply.participant;
      state.position = reply.answered;
      sheet = reply.sheet;
    } else {
      state.participant = random(16);
      state.sheet = crypto.getRandomValues(new Uint32Array(1))[0] % data.sheets.length;
      sheet = data.sheets[state.sheet];
    }
    state.started = Date.now();
    save();
    if (!keeps) notice("forgetful");
    show();
  }

  function finish() {
    view("end");
    $("thanks").textContent = text("thanks", { done: state.position, count: data.length });
    $("save-file").hidden = server;
    const unsent = server && state.queue.length > 0;
    $("outcome").textContent = text(!server ? "hand_in" : unsent ? "sending" : noticed === "refused" ? "" : "saved");
  }

  function stop() {
    if (!window.confirm(text("stop_sure"))) return;
    state.finished = Date.now();
    save();
    show();
  }

  /* ---- the vote file; sigan/study/ballots.py reads it */

  function voteFile() {
    const file = { format: "sigan-votes/1", study: data.study, participant: state.participant, sheet: state.sheet,
                   language: state.language, practised: state.practised, started: state.started,
                   finished: state.finished, answers: state.answers };
    const lines = ["format", "study", "participant", "sheet", "language", "practised", "started", "finished"]
      .map((key) => String(file[key]));
    for (const one of state.answers) lines.push([one.position, one.left, one.right, one.choice, one.ms].join(" "));
    file.seal = sha256(lines.join("\n"));
    return file;
  }

  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(voteFile(), null, 1) + "\n"], { type: "application/json" }));
    link.download = "votes-" + state.participant.slice(0, 12) + ".json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  /* SHA-256 of ASCII text, FIPS 180-4; the browser's own is missing on pages without TLS. */
  function sha256(message) {
    const primes = [];
    for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
    const fraction = (x) => Math.floor((x - Math.floor(x)) * 4294967296);
    const K = primes.map((p) => fraction(Math.cbrt(p)));
    const hash = primes.slice(0, 8).map((p) => fraction(Math.sqrt(p)));
    const turn = (x, n) => (x >>> n) | (x << (32 - n));
    const bytes = Array.from(message, (sign) => sign.charCodeAt(0));
    const bits = bytes.length * 8;
    bytes.push(128);
    while (bytes.length % 64 !== 56) bytes.push(0);
    for (let k = 7; k >= 0; k--) bytes.push(Math.floor(bits / 2 ** (8 * k)) & 255);
    for (let start = 0; start < bytes.length; start += 64) {
      const w = [];
      for (let t = 0; t < 16; t++)
        w[t] = bytes.slice(start + 4 * t, start + 4 * t + 4).reduce((sum, byte) => sum << 8 | byte, 0);
      for (let t = 16; t < 64; t++) {
        const s0 = turn(w[t - 15], 7) ^ turn(w[t - 15], 18) ^ (w[t - 15] >>> 3);
        const s1 = turn(w[t - 2], 17) ^ turn(w[t - 2], 19) ^ (w[t - 2] >>> 10);
        w[t] = w[t - 16] + s0 + w[t - 7] + s1 | 0;
      }
      let [a, b, c, d, e, f, g, h] = hash;
      for (let t = 0; t < 64; t++) {
        const one = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + K[t] + w[t] | 0;
        const two = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c)) | 0;
        [h, g, f, e, d, c, b, a] = [g, f, e, d + one | 0, c, b, a, one + two | 0];
      }
      [a, b, c, d, e, f, g, h].forEach((value, k) => { hash[k] = hash[k] + value | 0; });
    }
    return hash.map((value) => (value >>> 0).toString(16).padStart(8, "0")).join("");
  }

  /* ---- hands */

  const KEYS = { ArrowLeft: "left", ArrowRight: "right", " ": "tie" };
  for (const kind of ["keydown", "keyup"]) document.addEventListener(kind, (event) => {
    if ($("trial").hidden || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in KEYS) {
      if (event.key === " " && event.target === $("stop")) return;
      event.preventDefault();                    // neither scrolling nor a click on what has the focus
      if (kind === "keydown" && !event.repeat) choose(KEYS[event.key]);
    } else if (event.key === "Enter" && event.repeat) event.preventDefault();
  });
  const buttons = { left: "left", right: "right", "choose-left": "left", "choose-right": "right", "choose-tie": "tie" };
  for (const [id, choice] of Object.entries(buttons)) $(id).addEventListener("click", () => choose(choice));
  $("begin").addEventListener("click", begin);
  $("agree").addEventListener("change", () => { $("begin").disabled = !$("agree").checked; });
  $("stop").addEventListener("click", stop);
  $("save-file").addEventListener("click", download);
  document.addEventListener("visibilitychange", () => {
    const now = performance.now();
    if (document.hidden) hiddenSince = now;
    else if (hiddenSince) { away += now - hiddenSince; hiddenSince = 0; }
  });
  window.addEventListener("beforeunload", (event) => {
    if (state.queue.length || (!keeps && state.position && !state.finished)) event.preventDefault();
  });

  async function start() {
    load();
    for (const [language, words] of Object.entries(data.texts)) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = words.name;
      button.lang = language;
      button.dataset.language = language;
      button.addEventListener("click", () => speak(language));
      $("languages").append(button);
    }
    const asked = new URLSearchParams(location.search).get("lang") || state.language || navigator.language.slice(0, 2);
    $("photograph").hidden = !data.photographs;
    $("references").hidden = !data.references.length;
    $("context").hidden = !data.photographs && !data.references.length;
    for (const picture of data.references) {
      const img = document.createElement("img");
      img.alt = "";
      img.src = url(picture);
      $("references").firstElementChild.append(img);
    }
    speak(asked in data.texts ? asked : "en");
    if (!server) sheet = data.sheets[state.sheet];
    else if (state.participant && !(await meet())) {        // its votes were removed: begin again
      state = { ...state, participant: "", position: 0, queue: [], finished: 0 };
      save();
    }
    if (state.participant) {
      if (server) send();
      return show();
    }
    view("welcome");
    if (data.invited && server && location.hash.length < 2) notice("invitation_missing");
  }
  start();
})();
