"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const storedTheme = (value) => {
    // A browser may deny storage to a page opened from disk.
    try {
      if (value) localStorage.setItem("headstart-theme", value);
      return localStorage.getItem("headstart-theme");
    } catch {
      return value;
    }
  };
  const currentTheme = () => root.dataset.theme || (system.matches ? "dark" : "light");
  const updateButton = () => {
    button.textContent = currentTheme() === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to the ${button.textContent.toLowerCase()} theme`);
  };
  if (storedTheme()) root.dataset.theme = storedTheme();
  button.hidden = false;
  updateButton();
  system.addEventListener("change", updateButton);
  button.addEventListener("click", () => {
    root.dataset.theme = currentTheme() === "dark" ? "light" : "dark";
    storedTheme(root.dataset.theme);
    updateButton();
  });

  const valueOf = (row, column) => row.children[column].dataset.value;
  const compareValues = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", () => {
        const numeric = heading.classList.contains("number");
        const current = heading.getAttribute("aria-sort");
        const first = numeric ? "descending" : "ascending";
        const other = numeric ? "ascending" : "descending";
        const direction = current === first ? other : first;
        const sign = direction === "ascending" ? 1 : -1;
        const body = table.tBodies[0];
        const rows = [...body.rows];
        rows.sort((a, b) => sign * compareValues(valueOf(a, column), valueOf(b, column)));
        body.append(...rows);
        for (const each of headings) each.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", direction);
      });
    });
  }

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of closed) details.open = false;
  });
})();
