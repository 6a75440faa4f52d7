"""The chapters' prose: faults that readers stumbled over, as kinds that a pattern can find."""

import re
from dataclasses import dataclass

import nbformat
import notebooks
import pytest


@dataclass(frozen=True)
class Paragraph:
    place: str  # chapter: cell
    text: str  # without code, formulas and HTML tags


def paragraphs_of(name: str, cells) -> list[Paragraph]:
    """What a reader reads, computed sentences included, paragraph by paragraph."""
    found = []
    for cell in cells:
        if cell.cell_type == "markdown":
            texts = [cell.source]
        else:
            texts = [output.get("data", {}).get("text/markdown", "") for output in cell.outputs]
        for text in texts:
            text = re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", "CODE", text, flags=re.DOTALL)
            text = re.sub(r"<[^>]+>", " ", text)
            found += [
                Paragraph(f"{name}: {cell.id}", " ".join(part.split()))
                for part in re.split(r"\n\s*\n", text)
                if part.strip()
            ]
    return found


def read_paragraphs() -> list[Paragraph]:
    return [
        paragraph
        for path in notebooks.find_notebooks()
        for paragraph in paragraphs_of(path.stem, nbformat.read(path, as_version=4).cells)
    ]


PARAGRAPHS = read_paragraphs()

COUNTED = (
    "seconds|minutes|milliseconds|ms|tokens|patches|numbers|images|parameters|weights|bytes|kB|MB|"
    "times|steps|positions|multiply-adds|products|heads|layers|blocks|digits|errors|points|runs"
)
EACH = (
    "image|token|step|head|layer|block|patch|digit|photo|second|minute|batch|row|column|line|"
    "chapter|page|channel|pixel|seed|query|key|position|picture|canvas|pair"
)
SOMEONE = (
    "model|network|ViT|transformer|CNN|token|head|layer|block|loss|optimi[sz]er|gradient|teacher|"
    "student|norm|bias|attention|class token|map|curve|patch|weight"
)
FEELS = (
    "believes?|wants?|thinks?|likes|prefers?|decides?|hopes?|cares?|wonders?|feels?|pretends?|"
    "forgives?|complains?|dares?|trusts?|bothers?|minds?|loves?|hates?|enjoys?|suffers?"
)
FAULTS = {
    "per": rf"\d\S*\s+(?:{COUNTED})\s+an?\s+(?:{EACH})\b",
    "fix, repair or correct": r"\bmend(?:s|ed|ing)?\b",
    "a person's word of a thing": rf"\b(?:{SOMEONE})s?\s+(?:{FEELS})\b",
    "not said so in English": (
        r"seen is seen|numbers are others|in the midst of|on the way stand|is not to be seen|"
        r"could be had again|something else than it|of which we have|multiply what lies on top|"
        r"take it all in your hand|unawares|nobody can doubt|more than there is|is acquitted|"
        r"as good as nothing|another way over from|often told|with its share|last helping|"
        r"holds just such|how long is the gradient|all is well|by just this"
    ),
}
ACCUSATION = re.compile(
    r"\b(?:published (?:code|notebooks?|tutorials?|models?|implementations?)|(?:in|from) the wild|"
    r"(?:many|most|several|some|popular|more than one) (?:published |popular )?(?:notebooks?|"
    r"tutorials?|implementations?|repositories|codebases|libraries)|people often|"
    r"has been published)\b",
    re.IGNORECASE,
)
SOURCE = re.compile(r"\]\((?:https?://|[\w./-]+\.ipynb|bibliography)|\{cite")


@pytest.mark.parametrize("fault", FAULTS)
def test_no_paragraph_has(fault) -> None:
    found = [
        f"{paragraph.place}: …{paragraph.text[max(0, match.start() - 40) : match.end() + 40]}…"
        for paragraph in PARAGRAPHS
        for match in re.finditer(FAULTS[fault], paragraph.text, flags=re.IGNORECASE)
    ]
    assert not found, f"{fault}:\n" + "\n".join(found)


def test_whoever_is_said_to_be_wrong_is_named() -> None:
    """What "published code" does is a claim about somebody: a source stands in the paragraph."""
    found = [
        f"{paragraph.place}: …{paragraph.text[max(0, match.start() - 60) : match.end() + 60]}…"
        for paragraph in PARAGRAPHS
        for match in ACCUSATION.finditer(paragraph.text)
        if not SOURCE.search(paragraph.text) and not paragraph.text.startswith("**Exercise")
    ]
    assert not found, "\n".join(found)


FAULTY = {
    "per": ["It has 197 tokens an image.", "takes 2.1 ms a step"],
    "fix, repair or correct": ["Find the bug and mend it.", "Mended, it runs."],
    "a person's word of a thing": ["The head should not care: the head cares.", "a model believes"],
    "not said so in English": ["What one has seen is seen.", "Then the numbers are others."],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_pattern_finds_its_fault_and_no_other_words(fault) -> None:
    for text in FAULTY[fault]:
        assert re.search(FAULTS[fault], text, flags=re.IGNORECASE), text
    for text in [
        "It has 197 tokens per image, a step takes 2.1 ms, and 5 minutes, a pause included.",
        "The recommended head gives the model a new class.",
        "After 300 steps a model is good, and its class token like any other.",
    ]:
        assert not re.search(FAULTS[fault], text, flags=re.IGNORECASE), text


def test_computed_sentences_and_words_around_formulas_are_read() -> None:
    cells = [
        nbformat.v4.new_markdown_cell("One $x$ and `code`.\n\nTwo <b>words</b>."),
        nbformat.v4.new_code_cell(
            "", outputs=[nbformat.v4.new_output("display_data", {"text/markdown": "Three."})]
        ),
    ]
    texts = [paragraph.text for paragraph in paragraphs_of("x", cells)]
    assert texts == ["One CODE and CODE.", "Two words .", "Three."]
