// The excerpt under a search result is fetched, which browsers refuse for pages opened as files.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// Where a long word of code may wrap: after these signs, if another part of the word follows. (A
// browser would sooner leave the line empty in front of the word, and then break it anywhere.)
const LAST = /[\w)\]"'][./([,=]+$/, NEXT = /^[A-Za-z"']/;
function withBreaks(text) {
  const parts = text.split(/(?<=[./([,=])(?=[A-Za-z"'])/);
  return parts.flatMap((part, number) => (number ? [document.createElement("wbr"), part] : [part]));
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
      const line = lines.at(-1), pieces = withBreaks(part), coloured = node.cloneNode(false);
      if (LAST.test(line.textContent) && NEXT.test(part)) line.append(document.createElement("wbr"));
      if (node.nodeType === Node.TEXT_NODE) line.append(...pieces);
      else line.append(coloured), coloured.append(...pieces);
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
  for (const word of document.querySelectorAll(".bd-article code .pre")) {
    word.replaceChildren(...withBreaks(word.textContent));
  }
});

// Paper is white, whatever the page is.
let themeOnScreen;
addEventListener("beforeprint", () => {
  themeOnScreen = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
});
addEventListener("afterprint", () => {
  document.documentElement.dataset.theme = themeOnScreen;
});
