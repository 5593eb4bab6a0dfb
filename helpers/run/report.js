// The page is whole without this: it sorts tables, filters cards, and lets one player sound at a time.
const all = (what, inside = document) => [...inside.querySelectorAll(what)];
const pressable = (element, act) => {
  element.tabIndex = 0;
  element.addEventListener("click", act);
  element.addEventListener("keydown", (event) => event.key === "Enter" && act());
};

const others = (player) => all("audio").filter((one) => one !== player);
document.addEventListener("play", (event) => others(event.target).forEach((one) => one.pause()), true);

const value = (row, column) => row.cells[column].textContent.trim();
const compare = (a, b) => parseFloat(a.replace(/,/g, "")) - parseFloat(b.replace(/,/g, "")) || a.localeCompare(b);
all("table.sorts").forEach((table) => all("th", table).forEach((head, column) => pressable(head, () => {
  const turn = head.ariaSort === "descending" ? 1 : -1;
  all("th", table).forEach((one) => one.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows];
  table.tBodies[0].append(...rows.sort((a, b) => turn * compare(value(a, column), value(b, column))));
})));

all(".filter").forEach((filter) => {
  filter.hidden = false;
  all("button", filter).forEach((button) => button.addEventListener("click", () => {
    all("button", filter).forEach((one) => one.setAttribute("aria-pressed", one === button));
    all(".card", filter.parentElement).forEach((card) => {
      card.hidden = !["all", card.dataset.verdict].includes(button.value);
      card.style.display = card.hidden ? "none" : "";
    });
  }));
});

const holds = (names, name) => names.split("\n").includes(name);
const picked = document.getElementById("picked");
all(".confusion td[data-true]").forEach((cell) => pressable(cell, () => {
  const { true: truth, said } = cell.dataset;
  const cards = all("#predictions .card, #mistakes .card").filter(
    ({ dataset }) => holds(dataset.true, truth) && holds(dataset.said, said)
      && (truth === said || !holds(dataset.true, said)));
  const once = new Map(cards.map((card) => [card.dataset.recording, card.cloneNode(true)]));
  const title = document.createElement("p");
  const count = `${once.size} of ${cell.textContent.trim()} here to be heard. `;
  title.textContent = `${truth}, answered with ${said}: ${count}${cell.title}`;
  const board = document.createElement("div");
  board.className = "pictures";
  board.append(...once.values());
  board.childNodes.forEach((card) => { card.style.display = ""; });
  picked.replaceChildren(title, board);
}));
