"""The raw material: prose to hide facts in, and words to make keys of."""

import random
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

# RULER's repeated-noise haystack: one unit, about 18 words.
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NOISE_WORDS = 18


def read_documents(folder: Path) -> list[str]:
    """The text files of a folder (searched recursively), in the order of their paths."""
    documents = [path.read_text("utf-8") for path in sorted(folder.rglob("*.txt"))]
    if not documents:
        raise SystemExit(f"{folder} holds no .txt file; the README says which texts to put there")
    return documents


def split_sentences(document: str) -> list[str]:
    """Sentences by punctuation alone. Fragments and run-on paragraphs make poor haystacks and go."""
    flat = re.sub(r"\s+", " ", document)
    pieces = re.split(r"(?<=[.!?;]) +", flat)
    return [piece.strip() for piece in pieces if 8 < len(piece) < 400]


def haystack_documents(documents: list[str]) -> list[list[str]]:
    """Each document as sentences, without those too short to draw a passage from."""
    split = (split_sentences(document) for document in documents)
    return [sentences for sentences in split if len(sentences) > 10]


@dataclass(frozen=True)
class Words:
    """Two word lists. RULER's keys and word values are adjective-noun pairs."""

    adjectives: list[str]
    nouns: list[str]

    @staticmethod
    def read(folder: Path) -> "Words":
        def one(name: str) -> list[str]:
            words = [line.strip() for line in (folder / name).read_text("utf-8").splitlines()]
            # Words with spaces, hyphens or apostrophes would make a key ambiguous.
            return sorted({word for word in words if word.isalpha()})

        return Words(one("adjectives.txt"), one("nouns.txt"))


class Facts:
    """Draws keys, values and haystacks."""

    def __init__(self, rng: random.Random, words: Words, documents: list[list[str]]):
        self.rng = rng
        self.words = words
        self.documents = documents

    def word(self) -> str:
        return f"{self.rng.choice(self.words.adjectives)}-{self.rng.choice(self.words.nouns)}"

    def number(self) -> str:
        return str(self.rng.randint(10**6, 10**7 - 1))

    def uuid(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def value(self, kind: str) -> str:
        """A fresh value; `kind` is the plural that the prompt uses."""
        return {"numbers": self.number, "words": self.word, "uuids": self.uuid}[kind]()

    def noise(self, words: int) -> list[str]:
        return [NOISE] * max(1, words // NOISE_WORDS)

    def prose(self, words: int) -> list[str]:
        """Consecutive sentences from a random place, going on in other documents as needed."""
        if not self.documents:
            return self.noise(words)
        document = self.rng.choice(self.documents)
        at = self.rng.randrange(max(1, len(document) - 5))
        passage: list[str] = []
        count = 0
        while count < words:
            if at >= len(document):
                document, at = self.rng.choice(self.documents), 0
            passage.append(document[at])
            count += document[at].count(" ") + 1
            at += 1
        return passage
