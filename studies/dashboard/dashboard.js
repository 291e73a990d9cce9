"use strict";
// The page of the dashboard. Whatever a user wrote reaches the page as textContent, or escaped in a figure.
(() => {
  const EVERY = 1500; // ms between two questions
  const MOST = 100; // rows of the table
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const $ = (id) => document.getElementById(id);
  const state = { visit: 0, name: null, column: 0, rounds: 0, results: 0, rows: new Map(), tab: "latest", drawn: "", writable: false, study: null };
  let drawing = false;

  const make = (tag, text = "", kind = "") => {
    const element = document.createElement(tag);
    element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };
  const short = (value, digits = 5) => (value === null || value === undefined ? "" : Number(value.toPrecision(digits)).toString());
  const ask = async (path, query = {}) => {
    const answer = await fetch(`api/${path}?${new URLSearchParams(query)}`, { cache: "no-store" });
    const told = await answer.json();
    if (!answer.ok) throw Object.assign(new Error(told.error), { status: answer.status });
    return told;
  };
  const wanted = () => (location.hash.length > 1 ? decodeURIComponent(location.hash.slice(1)) : null);

  const showLive = (text, kind = "") => {
    if ($("live").textContent !== text) $("live").textContent = text;
    $("live").className = `live ${kind}`;
  };

  const showStudies = (studies) => {
    const items = studies.map((study) => {
      const link = make("a", study.name);
      link.href = `#${encodeURIComponent(study.name)}`;
      if (study.name === state.name) link.setAttribute("aria-current", "page");
      const failed = study.failed ? `, ${study.failed} failed` : "";
      link.append(make("span", `${study.complete} complete${failed}${study.pending ? `, ${study.pending} pending` : ""}`));
      const item = make("li");
      item.append(link);
      return item;
    });
    $("studies").replaceChildren(...items);
  };

  const begin = (name) => {
    Object.assign(state, { visit: state.visit + 1, name, column: 0, rounds: 0, results: 0, rows: new Map(), drawn: "", study: null });
    for (const id of ["cards", "groups", "causes", "rows"]) $(id).replaceChildren();
    for (const id of ["failures", "trials", "choose"]) $(id).hidden = true;
    document.title = name === null ? "Studies" : `${name} · studies`;
    $("name").textContent = name ?? "No study yet";
  };

  const showHead = (study) => {
    $("under").textContent = `${study.strategy} · seed ${study.seed} · created ${study.created}`;
    const card = (label, value, note = "", kind = "") => {
      const box = make("div", "", `card ${kind}`);
      box.append(make("p", label, "label"), make("p", value, "number"));
      if (note) box.append(make("p", note, "note"));
      return box;
    };
    const all = study.complete + study.failed + study.pending;
    const cards = [card("complete", `${study.complete}`, `in ${study.rounds} rounds`)];
    if (study.best) cards.push(card(`smallest ${study.measure}`, short(study.best.value), `trial ${study.best.trial}, noise included`, "main"));
    cards.push(card("failed", `${study.failed}`, study.failed ? `${Math.round((100 * study.failed) / all)} % of all` : "none", study.failed ? "bad" : ""));
    cards.push(card("pending", `${study.pending}`, workers(study.workers)));
    cards.push(card("last trial", study.last === null ? "–" : ago(Date.now() / 1000 - study.last)));
    $("cards").replaceChildren(...cards);
    $("choose").hidden = study.columns < 2;
    if ($("column").length !== study.columns) {
      $("column").replaceChildren(...Array.from({ length: study.columns }, (_, k) => new Option(`outcome[${k}]`, `${k}`)));
      $("column").value = `${state.column}`;
    }
  };

  const workers = (names) => (names.length === 1 ? names[0] : names.length ? `${names.length} workers` : "");

  const ago = (seconds) => {
    for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) if (seconds >= 2 * length) return `${Math.floor(seconds / length)} ${unit} ago`;
    return seconds < 5 ? "now" : `${Math.floor(seconds)} s ago`;
  };

  const showRows = (study) => {
    const rows = [...state.rows.values()];
    const tabs = {
      latest: () => rows.slice().reverse(),
      best: () => rows.filter((row) => row.value !== null).sort((a, b) => a.value - b.value),
      failed: () => rows.filter((row) => row.state === "failed").reverse(),
      pending: () => rows.filter((row) => row.state === "pending"),
    };
    $("trials").hidden = rows.length === 0;
    $("tabs").replaceChildren(
      ...Object.keys(tabs).map((name) => {
        const button = make("button", name);
        button.setAttribute("role", "tab");
        button.setAttribute("aria-selected", `${name === state.tab}`);
        button.onclick = () => { state.tab = name; showRows(study); };
        return button;
      }),
    );
    const labels = study.parameters.map((p) => (p.unit ? `${p.name} [${p.unit}]` : p.name));
    $("head").replaceChildren(...["trial", "state", study.measure || "outcome", ...labels, "seconds", ""].map((text) => make("th", text)));
    const shown = tabs[state.tab]();
    $("rows").replaceChildren(
      ...shown.slice(0, MOST).map((row) => {
        const line = make("tr", "", row.state);
        line.append(make("td", `${row.number}`), make("td", row.state, "state"), make("td", short(row.value)));
        line.append(...row.theta.map((value) => make("td", value)));
        line.append(make("td", short(row.seconds, 3)), make("td", row.error, "words"));
        line.onclick = () => openTrial(row.number);
        return line;
      }),
    );
    $("more").textContent = shown.length > MOST ? `${MOST} of ${shown.length} are shown.` : "";
  };

  // Figures are drawn when they are in view: a page with many stays fast.
  const draw = (div) => {
    if (!div.seen || !div.figure) return;
    const figure = div.figure;
    div.figure = null;
    Plotly.react(div, figure.data, { ...figure.layout, uirevision: "kept" }, config);
  };
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) { entry.target.seen = entry.isIntersecting; draw(entry.target); }
  }, { rootMargin: "300px" });

  const showGroups = (groups) => {
    const sections = groups.filter((group) => group.panels.length).map((group) => {
      const id = `group-${group.title.replaceAll(" ", "-")}`;
      const section = $(id) ?? Object.assign(make("section"), { id });
      if (!section.firstChild) section.append(make("h2", group.title), make("div", "", "panels"));
      const panels = group.panels.map((panel) => {
        const key = `panel-${panel.key}`;
        let box = $(key);
        if (!box) {
          box = Object.assign(make("figure", "", `panel${panel.wide ? " wide" : ""}`), { id: key });
          const plot = make("div", "", "plot");
          plot.style.height = `${panel.height}px`;
          box.append(make("h3"), plot, make("figcaption"));
          watch.observe(plot);
        }
        const [title, plot, caption] = box.children;
        title.textContent = panel.title;
        caption.textContent = panel.caption;
        plot.figure = panel.figure;
        draw(plot);
        return box;
      });
      keep(section.lastChild, panels);
      return section;
    });
    keep($("groups"), sections);
  };

  // Moving an element makes plotly draw it anew: those that stay are left where they are.
  const keep = (parent, children) => {
    for (const child of [...parent.children]) if (!children.includes(child)) { child.querySelectorAll(".plot").forEach((plot) => watch.unobserve(plot)); child.remove(); }
    children.forEach((child, place) => { if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null); });
  };

  const showCauses = (causes) => {
    $("failures").hidden = causes.length === 0;
    const open = new Set([...$("causes").querySelectorAll("details[open]")].map((details) => details.dataset.words));
    $("causes").replaceChildren(
      ...causes.map((cause) => {
        const details = make("details", "", "cause");
        details.dataset.words = cause.words;
        details.open = open.has(cause.words);
        const summary = make("summary");
        summary.append(make("span", `${cause.n}`, "count"), document.createTextNode(` ${cause.words}`));
        details.append(summary, make("p", `Trials ${cause.trials}. That of the first:`, "note"), make("pre", cause.error));
        return details;
      }),
    );
  };

  const openTrial = async (number) => {
    const trial = await ask("trial", { name: state.name, number });
    $("trial-title").textContent = `Trial ${number}`;
    const facts = [["state", trial.state], ["round", `${trial.round}`], ...trial.theta];
    if (trial.seconds !== null) facts.push(["seconds", short(trial.seconds)]);
    if (trial.started !== null) facts.push(["started", new Date(1000 * trial.started).toLocaleString()]);
    if (trial.seed !== null) facts.push(["seed", trial.seed]);
    if (trial.host) facts.push(["machine and process", trial.host]);
    if (trial.outcome) facts.push([`outcome, shape [${trial.shape.join(", ")}]`, trial.outcome.map((value) => short(value)).join("  ")]);
    facts.push(["chosen by", trial.strategy]);
    $("trial-facts").replaceChildren(...facts.map(([name, value]) => {
      const fact = make("div");
      fact.append(make("dt", name), make("dd", value));
      return fact;
    }));
    $("trial-text").hidden = !trial.error;
    $("trial-text").textContent = trial.error ?? "";
    $("trial-fail").hidden = !(state.writable && trial.state === "pending");
    $("refusal").textContent = "";
    $("trial-fail").onsubmit = async (event) => {
      event.preventDefault();
      const answer = await fetch("api/fail", {
        method: "POST",
        headers: { Authorization: `Bearer ${$("token").value}`, "Content-Type": "application/json" },
        body: JSON.stringify({ name: state.name, number }),
      });
      if (answer.ok) $("trial").close();
      else $("refusal").textContent = (await answer.json()).error;
    };
    if (!$("trial").open) $("trial").showModal();
  };

  const refresh = async () => {
    const { studies, writable } = await ask("studies");
    state.writable = writable;
    const name = wanted() ?? studies[0]?.name ?? null;
    if (name !== state.name) begin(name);
    showStudies(studies);
    if (name === null) return showLive("waiting for a study");
    const visit = state.visit;
    const study = await ask("study", { name, rounds: state.rounds, results: state.results, column: state.column });
    if (visit !== state.visit) return;
    const changed = state.study === null || study.rows.length > 0;
    for (const row of study.rows) state.rows.set(row.number, row);
    Object.assign(state, { rounds: study.rounds, results: study.results, study });
    showHead(study);
    if (changed) showRows(study);
    showLive(study.pending ? "running" : "up to date", study.pending ? "on" : "");
    const version = `${name} ${study.rounds} ${study.results} ${state.column}`;
    if (version !== state.drawn && !drawing) {
      drawing = true;
      ask("details", { name, column: state.column })
        .then(({ groups, causes }) => {
          if (visit !== state.visit) return;
          state.drawn = version;
          showGroups(groups);
          showCauses(causes);
        })
        .catch((error) => showLive(error.message, "lost"))
        .finally(() => { drawing = false; });
    }
  };

  const loop = async () => {
    try {
      if (!document.hidden) await refresh();
    } catch (error) {
      showLive(error.status === 404 ? error.message : `no connection: ${error.message}`, "lost");
    }
    setTimeout(loop, EVERY);
  };

  $("column").onchange = () => {
    Object.assign(state, { visit: state.visit + 1, column: Number($("column").value), rounds: 0, results: 0, rows: new Map(), study: null, drawn: "" });
  };
  window.addEventListener("hashchange", () => refresh().catch(() => {}));
  loop();
})();
