(() => {
  "use strict";
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const open = (tab) => {
    for (const one of tabs) {
      one.setAttribute("aria-selected", String(one === tab));
      one.tabIndex = one === tab ? 0 : -1;
      document.getElementById(one.getAttribute("aria-controls")).hidden = one !== tab;
    }
  };
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      const next = tabs[(index + by + tabs.length) % tabs.length];
      open(next);
      next.focus();
    });
  });

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], original = [...body.rows];
    const key = (row, column, kind) => {
      const cell = row.cells[column];
      return kind === "number" ? Number(cell.dataset.value) : cell.textContent.trim().toLowerCase();
    };
    heads.forEach((head, column) => {
      const kind = head.dataset.sort;
      if (!kind) return;
      head.tabIndex = 0;
      const sort = () => {
        const orders = kind === "number" ? ["descending", "ascending", null] : ["ascending", "descending", null];
        const order = orders[(orders.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
        for (const one of heads) one.removeAttribute("aria-sort");
        if (order) head.setAttribute("aria-sort", order);
        const sign = order === "descending" ? -1 : 1;
        const rows = order ? [...original].sort((a, b) => {
          const [x, y] = [key(a, column, kind), key(b, column, kind)];
          return sign * (x < y ? -1 : x > y ? 1 : 0);
        }) : original;
        body.append(...rows);
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
      });
    });
  }
})();
