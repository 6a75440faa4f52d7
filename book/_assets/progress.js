// Ticks for solved exercises, below the cards of a page that shows a badge (vitlib/check/progress.py
// makes it), and the badge's count. The browser keeps them under the page's own key, and nothing is
// sent. Where it may not, they last until the page is closed.
document.addEventListener("DOMContentLoaded", () => {
  const badge = document.querySelector(".vitlib-progress");
  if (!badge) return;
  const key = `vitlib-solved-${badge.dataset.chapter}`;
  const sentence = badge.querySelector("p"), svg = badge.querySelector("svg");
  const [parts, count] = [svg.querySelectorAll(".part"), svg.querySelector("text")];
  const [stubs, boxes] = [document.querySelectorAll(".cell.tag_exercise"), []];
  let solved = new Set(), isKept = true;
  try {
    solved = new Set(JSON.parse(localStorage.getItem(key)) ?? []);
  } catch {
    isKept = false;
  }

  function show() {
    const done = boxes.filter((box) => box.checked).length, text = `${done} of ${boxes.length}`;
    parts.forEach((part, i) => part.setAttribute("opacity", i < done ? 1 : 0.2));
    count.textContent = text;
    svg.querySelector("title").textContent = `${text} solved`;
    sentence.textContent = `${text} cases solved`
      + (isKept ? "." : ". This browser keeps no data: the ticks are lost when the page is closed.");
    return text;
  }

  function keep() {
    solved = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    try {
      localStorage.setItem(key, JSON.stringify([...solved]));
    } catch {
      isKept = false;
    }
  }

  document.querySelectorAll(".exercise").forEach((card, i) => {
    const value = stubs[i].textContent.match(/check\.(\w+)\(\w+\)\s*$/m)[1];
    const box = Object.assign(document.createElement("input"), {
      type: "checkbox", value, checked: solved.has(value), autocomplete: "off",
    });
    const label = document.createElement("label"), said = document.createElement("span");
    label.append(box, " My checker says ✓ ");
    said.setAttribute("role", "status");
    box.addEventListener("change", () => {
      keep();
      said.textContent = `${show()} solved`;
    });
    const line = Object.assign(document.createElement("p"), { className: "solved" });
    line.append(label, said);
    card.append(line);
    boxes.push(box);
  });
  show();

  const save = Object.assign(document.createElement("button"), {
    type: "button", className: "btn btn-sm",
    textContent: "Save the badge as a picture",
  });
  save.addEventListener("click", () => {
    const file = new Blob([svg.outerHTML], { type: "image/svg+xml" });
    const link = Object.assign(document.createElement("a"), {
      href: URL.createObjectURL(file), download: `${badge.dataset.chapter}.svg`,
    });
    link.click();
    URL.revokeObjectURL(link.href);
  });
  badge.append(save);
});
