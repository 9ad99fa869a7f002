(() => {
  "use strict";
  const themes = ["light", "dark"];
  const root = document.documentElement;
  const setTheme = (name) => { root.dataset.theme = name; };
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => setTheme(event.matches ? "dark" : "light"));
  for (const button of document.querySelectorAll("[data-theme-switch]")) {
    button.addEventListener("click", () => setTheme(themes[1 - themes.indexOf(root.dataset.theme)]));
  }

  const element = (tag, text, parent) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  };

  function start(graph) {
    const data = JSON.parse(graph.querySelector("script[type='application/json']").textContent);
    const canvas = graph.querySelector(".canvas"), svg = canvas.querySelector("svg"), panel = graph.querySelector(".panel");
    const gentle = canvas.classList.contains("gentle");
    const cards = [...svg.querySelectorAll(".card")], wires = [...svg.querySelectorAll(".wire")];
    const wireAt = new Map(wires.map((one) => [Number(one.dataset.wire), one]));
    const [width, height] = [data.width, data.height];
    let scale = 1, left = 0, top = 0, chosen = -1;

    // --- looking around: (left, top) is the drawing's point in the upper left corner
    const show = () => svg.setAttribute("viewBox", `${left} ${top} ${canvas.clientWidth / scale} ${canvas.clientHeight / scale}`);
    const limits = () => [Math.min(0.1, fitting()), 4];
    const fitting = () => Math.min(canvas.clientWidth / width, canvas.clientHeight / height) || 1;
    const zoom = (factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) => {
      const [least, most] = limits(), next = Math.min(most, Math.max(least, scale * factor));
      left += x / scale - x / next;
      top += y / scale - y / next;
      scale = next;
      show();
    };
    const look = (wanted) => {
      scale = wanted;
      const [w, h] = [canvas.clientWidth / scale, canvas.clientHeight / scale];
      left = width < w ? (width - w) / 2 : 0;
      top = height < h ? Math.max((height - h) / 2, -20) : 0;
      show();
    };
    const centre = (index) => {
      const [x, y, w, h] = data.cards[index].box;
      const sheet = panel.hidden || getComputedStyle(panel).position !== "absolute" ? 0 : panel.offsetHeight;
      scale = Math.max(scale, 0.8);
      left = x + w / 2 - canvas.clientWidth / scale / 2;
      top = y + h / 2 - (canvas.clientHeight - sheet) / scale / 2;
      show();
    };
    const first = () => look(Math.min(1, Math.max(fitting(), 0.5)));

    canvas.addEventListener("wheel", (event) => {
      if (gentle && !event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const frame = canvas.getBoundingClientRect();
      zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX - frame.left, event.clientY - frame.top);
    }, { passive: false });

    const fingers = new Map();
    let moved = 0;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      moved = 0;
      graph.querySelector(".hint").hidden = true;
    });
    canvas.addEventListener("pointermove", (event) => {
      const old = fingers.get(event.pointerId);
      if (!old) return;
      const now = [event.clientX, event.clientY];
      const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      fingers.set(event.pointerId, now);
      moved += Math.hypot(now[0] - old[0], now[1] - old[1]);
      if (moved < 4) return;
      canvas.setPointerCapture(event.pointerId);
      canvas.classList.add("moving");
      left -= (now[0] - old[0]) / scale / (others.length + 1);
      top -= (now[1] - old[1]) / scale / (others.length + 1);
      if (others.length === 1) {
        const [a] = others, frame = canvas.getBoundingClientRect(), apart = Math.hypot(old[0] - a[0], old[1] - a[1]);
        zoom(Math.hypot(now[0] - a[0], now[1] - a[1]) / Math.max(apart, 1), (now[0] + a[0]) / 2 - frame.left, (now[1] + a[1]) / 2 - frame.top);
      } else {
        show();
      }
    });
    const lift = (event) => {
      fingers.delete(event.pointerId);
      if (!fingers.size) canvas.classList.remove("moving");
    };
    canvas.addEventListener("pointerup", lift);
    canvas.addEventListener("pointercancel", lift);

    // --- one layer
    const lit = (index) => {
      for (const wire of wires) wire.classList.remove("lit");
      if (index >= 0) for (const wire of [...data.cards[index].from, ...data.cards[index].to]) wireAt.get(wire)?.classList.add("lit");
    };
    const ends = (index, which) => {
      const found = which === "from" ? data.cards[index].from.map((wire) => data.wires[wire][0])
        : data.cards[index].to.flatMap((wire) => data.wires[wire][1]);
      return [...new Set(found)];
    };
    const choose = (index, look = false) => {
      if (chosen >= 0) cards[chosen].classList.remove("chosen");
      chosen = index;
      lit(index);
      panel.replaceChildren();
      panel.hidden = index < 0;
      if (index < 0) return;
      cards[index].classList.add("chosen");
      const card = data.cards[index], head = element("header", undefined, panel);
      element("h3", card.name, head);
      const close = element("button", "×", head);
      close.setAttribute("aria-label", "close");
      close.addEventListener("click", () => { choose(-1); canvas.focus(); });
      element("p", card.about, panel);
      const list = element("dl", undefined, panel);
      for (const [name, value] of card.rows) {
        element("dt", name, list);
        element("dd", value, list);
      }
      for (const [which, title] of [["from", "reads"], ["to", "read by"]]) {
        const others = ends(index, which);
        if (!others.length) continue;
        element("h4", title, panel);
        const links = element("div", undefined, panel);
        links.className = "links";
        for (const other of others) {
          element("button", data.cards[other].name, links).addEventListener("click", () => choose(other, true));
        }
      }
      panel.scrollTop = 0;
      if (look) centre(index);
    };
    svg.addEventListener("click", (event) => {
      if (moved >= 4) return;
      const card = event.target.closest(".card");
      choose(card ? Number(card.dataset.card) : -1);
    });
    svg.addEventListener("pointerover", (event) => {
      const card = event.target.closest(".card");
      if (card) lit(Number(card.dataset.card));
    });
    svg.addEventListener("pointerout", (event) => { if (event.target.closest(".card")) lit(chosen); });

    // --- search
    const input = graph.querySelector("input[type=search]"), output = graph.querySelector(".find output");
    let found = [], at = -1;
    const search = () => {
      for (const index of found) cards[index].classList.remove("found");
      const words = input.value.trim().toLowerCase();
      found = words ? data.cards.flatMap((card, index) => card.name.toLowerCase().includes(words) ? [index] : []) : [];
      for (const index of found) cards[index].classList.add("found");
      at = -1;
      output.textContent = words ? `${found.length} found` : "";
    };
    const step = (by) => {
      if (!found.length) return;
      at = (at + by + found.length) % found.length;
      output.textContent = `${at + 1} of ${found.length}`;
      choose(found[at], true);
    };
    input.addEventListener("input", () => { search(); if (found.length) centre(found[0]); });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") { event.preventDefault(); step(event.shiftKey ? -1 : at < 0 ? 1 : 1); }
      if (event.key === "Escape") { input.value = ""; search(); choose(-1); }
    });

    // --- keys on the drawing: arrows follow the wires
    canvas.addEventListener("keydown", (event) => {
      const near = { ArrowUp: "from", ArrowDown: "to" }[event.key];
      if (near) {
        event.preventDefault();
        const others = chosen < 0 ? [0] : ends(chosen, near);
        if (others.length) choose(others[0], true);
      } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
        event.preventDefault();
        const next = chosen + (event.key === "ArrowLeft" ? -1 : 1);
        if (next >= 0 && next < cards.length) choose(next, true);
      } else if (event.key === "Escape") choose(-1);
      else if (event.key === "+" || event.key === "=") zoom(1.25);
      else if (event.key === "-") zoom(0.8);
      else if (event.key === "0") look(fitting());
      else if (event.key === "/") { event.preventDefault(); input.focus(); }
    });
    const actions = { in: () => zoom(1.25), out: () => zoom(0.8), fit: () => look(fitting()), one: () => look(1) };
    for (const button of graph.querySelectorAll("[data-do]")) button.addEventListener("click", actions[button.dataset.do]);

    let seen = false;
    new ResizeObserver(() => {
      if (!canvas.clientWidth) return;
      if (seen) show(); else first();
      seen = true;
    }).observe(canvas);
  }
  for (const graph of document.querySelectorAll(".amc-graph")) start(graph);
})();
