"use strict";
// Moves about in what the page was written with. It draws nothing: pictures and sentences are
// shown, hidden and marked, and, where the page is served, exchanged for newer ones as they are.
(() => {
  const byId = (id) => document.getElementById(id);
  let data = null; // the page's document
  let graph = new Map(); // view -> boxes, wires and who is next to whom
  let view = null; // the picture that is shown
  let chosen = null; // what is in focus, by its identifier in the document
  let trail = []; // how one came here, for the way back

  const element = (id) => byId(`${view}--${id}`);

  function read() {
    data = JSON.parse(byId("data").textContent);
    graph = new Map(data.views.map((it) => [it.id, neighbours(it)]));
  }

  function neighbours({ boxes, wires }) {
    const things = new Map();
    const next = new Map();
    const put = (id, other) => next.set(id, [...(next.get(id) ?? []), other]);
    for (const box of boxes) {
      things.set(box.id, { ...box, kind: "box" });
    }
    for (const box of boxes) {
      if (box.inside !== undefined) {
        put(boxes[box.inside].id, box.id);
      }
    }
    for (const wire of wires) {
      const ends = wire.ends.map((end) => boxes[end].id);
      things.set(wire.id, { ...wire, kind: "wire", ends });
      ends.forEach((end) => put(end, wire.id));
      next.set(wire.id, ends);
    }
    return { things, next, order: boxes.map((box) => box.id) };
  }

  function show(name) {
    view = graph.has(name) ? name : data.views[0].id;
    for (const { id } of data.views) {
      byId(`view-${id}`).hidden = id !== view;
    }
    for (const tab of document.querySelectorAll("#tabs button")) {
      tab.setAttribute("aria-current", String(tab.dataset.view === view));
    }
  }

  // What sentences about `id` are about, too: a pod's are those of its devices.
  function things(id) {
    const { things, order } = graph.get(view);
    const thing = things.get(id);
    if (thing.kind === "wire") {
      return thing.things;
    }
    const found = new Set(thing.thing ? [thing.thing] : []);
    const at = order.indexOf(id);
    const within = new Set([at]);
    order.forEach((other, place) => {
      const box = things.get(other);
      if (box.inside !== undefined && within.has(box.inside)) {
        within.add(place);
        if (box.thing) {
          found.add(box.thing);
        }
      }
    });
    if (!thing.thing && thing.inside !== undefined) {
      const around = things.get(order[thing.inside]).thing;
      if (around) {
        found.add(around);
      }
    }
    return [...found];
  }

  function choose(id, { move = true } = {}) {
    const target = id && element(id);
    document.querySelectorAll(".scene .chosen, .scene .lit").forEach((it) => {
      it.classList.remove("chosen", "lit");
      it.tabIndex = -1;
    });
    chosen = target ? id : null;
    const start = element(graph.get(view).order[0]);
    if (start) {
      start.tabIndex = target ? -1 : 0;
    }
    if (target) {
      target.classList.add("chosen");
      target.tabIndex = 0;
      const next = graph.get(view).next.get(id) ?? [];
      next.map(element).forEach((it) => it?.classList.add("lit"));
      if (move) {
        target.focus({ preventScroll: true });
      }
      target.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    tell(target);
  }

  // The sentences about what is in focus, or all of them.
  function tell(target) {
    const [head, ...facts] = target ? target.getAttribute("aria-label").split("; ") : [];
    const lines = target ? [["strong", head], ...facts.map((fact) => ["span", fact])] : [];
    const made = lines.map(([name, text]) => {
      const line = document.createElement(name);
      line.textContent = text;
      return line;
    });
    byId("chosen").replaceChildren(...made);
    const wanted = target ? new Set(things(chosen)) : null;
    let count = 0;
    for (const said of document.querySelectorAll("#words [data-about]")) {
      const about = said.dataset.about.split(" ");
      said.hidden = wanted !== null && !about.some((it) => wanted.has(it));
      count += said.hidden ? 0 : 1;
    }
    for (const chapter of document.querySelectorAll("#words .chapter")) {
      chapter.hidden = !chapter.querySelector("[data-about]:not([hidden])");
    }
    byId("nothing").hidden = count > 0 || !target;
    byId("all").hidden = !target;
  }

  function step(id, keep = true) {
    if (id !== undefined && element(id)) {
      if (keep && chosen) {
        trail.push(chosen);
      }
      choose(id);
    }
  }

  // What is not drawn but told is passed over, to what is behind it.
  const onward = (id, from) => (graph.get(view).next.get(id) ?? []).filter((it) => it !== from);

  function forth() {
    const { things } = graph.get(view);
    const from = trail.at(-1);
    const box = things.get(chosen);
    let ways = onward(chosen, from).filter(element);
    if (ways.length === 0 && box.kind === "box") {
      const told = onward(chosen, from).filter((id) => things.get(id).kind === "wire");
      ways = told.flatMap((id) => onward(id, chosen));
    }
    step(ways[0]);
  }

  function back() {
    const from = trail.pop();
    const outer = graph.get(view).things.get(chosen)?.inside;
    step(from ?? (outer === undefined ? undefined : graph.get(view).order[outer]), false);
  }

  // Another one of those that could have been taken instead.
  function aside(by) {
    const { next, order } = graph.get(view);
    const from = trail.at(-1);
    const before = trail.at(-2);
    const others = from ? (next.get(from) ?? []).filter((id) => id !== before) : order;
    const ways = others.filter(element);
    const at = ways.indexOf(chosen);
    if (at >= 0 && ways.length > 1) {
      step(ways[(at + by + ways.length) % ways.length], false);
    }
  }

  function enter() {
    const own = data.views.find((it) => it.of === graph.get(view).things.get(chosen)?.thing);
    if (own && own.id !== view) {
      const id = chosen;
      go(own.id, id);
    }
  }

  function go(name, id) {
    trail = [];
    choose(null);
    show(name);
    choose(id && element(id) ? id : null);
  }

  const keys = {
    ArrowRight: forth,
    ArrowLeft: back,
    ArrowDown: () => aside(1),
    ArrowUp: () => aside(-1),
    Enter: enter,
  };

  // Search: names, addresses, and whatever else a box says.
  let selected = -1;

  function find() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = ({ name, text }) => `${name} ${text}`.toLowerCase();
    const fits = (entry) => words.every((word) => all(entry).includes(word));
    const rank = ({ name }) => (name.toLowerCase() === words[0] ? 0 : 1);
    const found = words.length === 0 ? [] : data.index.filter(fits);
    found.sort((one, other) => rank(one) - rank(other));
    const items = found.slice(0, 50).map((entry, place) => {
      const item = document.createElement("li");
      const small = document.createElement("small");
      item.id = `hit-${place}`;
      item.role = "option";
      item.dataset.view = entry.view ?? "";
      item.dataset.id = entry.id;
      item.textContent = `${entry.name} `;
      small.textContent = entry.text + (entry.view ? "" : " (not drawn in this page)");
      item.append(small);
      return item;
    });
    byId("hits").replaceChildren(...items);
    byId("hits").hidden = items.length === 0;
    byId("search").setAttribute("aria-expanded", String(items.length > 0));
    byId("found").textContent = words.length ? `${found.length} found` : "";
    select(items.length > 0 ? 0 : -1);
  }

  function select(place) {
    const items = [...byId("hits").children];
    selected = items.length ? (place + items.length) % items.length : -1;
    items.forEach((item, at) => item.setAttribute("aria-selected", String(at === selected)));
    items[selected]?.scrollIntoView({ block: "nearest" });
    byId("search").setAttribute("aria-activedescendant", items[selected]?.id ?? "");
  }

  function take(item) {
    if (item?.dataset.view) {
      byId("hits").hidden = true;
      byId("search").setAttribute("aria-expanded", "false");
      go(item.dataset.view, item.dataset.id);
    }
  }

  function searchKey(event) {
    const actions = {
      ArrowDown: () => select(selected + 1),
      ArrowUp: () => select(selected - 1),
      Enter: () => take(byId("hits").children[selected]),
      Escape: () => {
        byId("search").value = "";
        find();
      },
    };
    if (actions[event.key]) {
      actions[event.key]();
      event.preventDefault();
    }
  }

  const idOf = (target) => target.closest?.(".scene [tabindex]")?.id.slice(view.length + 2);

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    if (event.target.id === "search") {
      searchKey(event);
    } else if (event.key === "/") {
      byId("search").focus();
      event.preventDefault();
    } else if (event.key === "Escape") {
      trail = [];
      choose(null);
    } else if (idOf(event.target) && keys[event.key]) {
      keys[event.key]();
      event.preventDefault();
    }
  });

  document.addEventListener("focusin", (event) => {
    const id = idOf(event.target);
    if (id && id !== chosen) {
      trail = [];
      choose(id, { move: false });
    }
  });

  document.addEventListener("click", (event) => {
    const id = idOf(event.target);
    const button = event.target.closest?.("button");
    if (id) {
      // Along a wire from the last box is a step that can be taken back.
      const { next } = graph.get(view);
      const is_next = chosen && (next.get(chosen) ?? []).includes(id);
      trail = is_next ? [...trail, chosen] : [];
      choose(id);
    } else if (button?.dataset.view) {
      go(button.dataset.view);
    } else if (button?.id === "all") {
      trail = [];
      choose(null);
    } else if (button?.id === "commands") {
      const hidden = byId("words").classList.toggle("no-commands");
      button.setAttribute("aria-pressed", String(!hidden));
    } else {
      take(event.target.closest?.("#hits li"));
    }
  });

  document.addEventListener("dblclick", (event) => {
    if (idOf(event.target)) {
      enter();
    }
  });

  // A served page is told when there is a newer one, and takes its parts; what is in focus stays.
  async function renew() {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) {
      return;
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const had = document.activeElement?.closest(".scene [tabindex]") !== null;
    const [name, id, way] = [view, chosen, trail];
    for (const part of ["pictures", "said", "data", "seen"]) {
      byId(part).replaceWith(document.importNode(fresh.getElementById(part), true));
    }
    read();
    show(name);
    trail = way.filter((it) => element(it));
    choose(id && element(id) ? id : null, { move: had });
  }

  const live = document.querySelector('meta[name="podwire-live"]')?.content;
  if (live && location.protocol.startsWith("http")) {
    const source = new EventSource(live);
    const news = (come) => () => {
      document.documentElement.dataset.news = come;
    };
    // One after the other: an older page must not come last.
    let renewed = Promise.resolve();
    source.addEventListener("changed", () => {
      renewed = renewed.then(renew).catch(news("none"));
    });
    source.addEventListener("open", news("come"));
    source.addEventListener("error", news("none"));
  }

  byId("search").addEventListener("input", find);
  read();
  show(data.views[0].id);
  choose(null);
  document.documentElement.dataset.ready = "true";
})();
