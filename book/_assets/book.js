// The excerpt under a search result is fetched, which browsers refuse for pages opened as files.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// Each line of code becomes an element, so that on a phone, where long lines wrap, book.css can
// indent what is wrapped further than the line itself. The text stays the same, also when copied.
function splitIntoLines(pre) {
  const lines = [];
  for (const node of pre.childNodes) {
    for (const part of node.textContent.split(/(?<=\n)/)) {
      if (!lines.length || lines.at(-1).textContent.endsWith("\n")) {
        lines.push(Object.assign(document.createElement("span"), { className: "line" }));
      }
      const piece = node.cloneNode(false); // a word with its colour, or what is between words
      piece.textContent = part;
      lines.at(-1).append(piece);
    }
  }
  for (const line of lines) {
    const depth = line.textContent.match(/^ */)[0].length + 4;
    line.style.setProperty("--hang", `${depth}ch`);
  }
  pre.replaceChildren(...lines);
}
document.addEventListener("DOMContentLoaded", () => {
  const blocks = document.querySelectorAll(".bd-article div.highlight > pre");
  [...blocks].filter((pre) => !pre.closest(".cell_output")).forEach(splitIntoLines);
});
