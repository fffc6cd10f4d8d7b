"use strict";
(() => {
  const tip = document.getElementById("tip");
  let shown = null;

  const hide = () => {
    tip.hidden = true;
    if (shown) shown.classList.remove("shown");
    shown = null;
  };

  const show = (mark) => {
    if (mark === shown) return;
    hide();
    shown = mark;
    mark.classList.add("shown");
    tip.textContent = mark.getAttribute("aria-label");
    tip.hidden = false;
    const box = mark.getBoundingClientRect();
    const left = box.left + box.width / 2 - tip.offsetWidth / 2;
    const above = box.top - tip.offsetHeight - 8;
    tip.style.left = `${Math.max(4, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${above < 4 ? box.bottom + 8 : above}px`;
  };

  const distance = (mark, event) => {
    const box = mark.getBoundingClientRect();
    const beside = Math.max(box.left - event.clientX, 0, event.clientX - box.right);
    const above = Math.max(box.top - event.clientY, 0, event.clientY - box.bottom);
    return Math.hypot(beside, above);
  };

  // A figure is one stop of the Tab key; the arrow keys go from mark to mark inside it.
  for (const svg of document.querySelectorAll("figure svg")) {
    const marks = [...svg.querySelectorAll(".mark-symbol > [aria-label], .mark-rect > [aria-label]")];
    if (!marks.length) continue;
    let current = 0;
    const go = (index) => {
      marks[current].setAttribute("tabindex", "-1");
      current = (index + marks.length) % marks.length;
      marks[current].setAttribute("tabindex", "0");
      marks[current].focus();
    };
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    marks.forEach((mark, index) => {
      mark.setAttribute("tabindex", index ? "-1" : "0");
      mark.addEventListener("focus", () => { current = index; show(mark); });
      mark.addEventListener("blur", hide);
    });
    svg.addEventListener("keydown", (event) => {
      const key = event.key;
      if (key === "Escape") return hide();
      const index = key === "Home" ? 0 : key === "End" ? marks.length - 1 : key in steps ? current + steps[key] : null;
      if (index === null) return;
      event.preventDefault();
      go(index);
    });
    const nearest = (event) => {
      const found = marks.map((mark) => [distance(mark, event), mark]).sort((a, b) => a[0] - b[0])[0];
      if (found[0] < 16) show(found[1]);
      else hide();
    };
    svg.addEventListener("pointermove", nearest);
    svg.addEventListener("pointerdown", nearest);
    svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
  }
  document.addEventListener("scroll", hide, { passive: true, capture: true });

  const compare = (a, b) => {
    const [x, y] = [a, b].map((cell) => (cell.dataset.key === undefined ? null : Number(cell.dataset.key)));
    if (x !== null && y !== null) return x - y;
    if (x !== null || y !== null) return x === null ? 1 : -1;
    return a.textContent.localeCompare(b.textContent, "en", { numeric: true });
  };

  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    if (body.rows.length < 2) continue;
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column]));
        body.append(...(down ? rows.reverse() : rows));
      });
    });
  }
})();
