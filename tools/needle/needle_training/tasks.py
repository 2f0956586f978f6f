"""The synthetic tasks: a context with facts hidden in it, and questions with exact answers.

The wording is that of RULER (Hsieh et al., 2024), so that a model trained here can be measured there.
Several questions are asked about one context: the long part of an example is then used several times.
"""

import random
from collections import Counter
from dataclasses import dataclass

from .corpus import Facts

LETTERS = "abcdefghijklmnopqrstuvwxyz"

# How often each task is drawn. Retrieval is what the model is for.
TASK_WEIGHTS = {
    "retrieval": 12,
    "tracking": 3,
    "common_words": 1.2,
    "frequent_words": 1.2,
    "prose": 1,
}
# Tasks that ask something; prose is plain language modelling.
QUESTION_TASKS = ["retrieval", "tracking", "common_words", "frequent_words"]


@dataclass(frozen=True)
class Example:
    context: str
    questions: list[tuple[str, str]]
    """(question ending in the answer's first words, answer), in the order to ask them."""


def draw_task(rng: random.Random) -> str:
    return rng.choices(list(TASK_WEIGHTS), list(TASK_WEIGHTS.values()))[0]


def make_example(facts: Facts, words: int, task: str) -> Example:
    """One example of about `words` words of context."""
    return _MAKERS[task](facts, words)


def enumerate_in_words(items: list[str]) -> str:
    """`a`, or `a, and b`, or `a, b, and c`: with a comma before "and", as RULER writes it."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])}, and {items[-1]}"


def interleave(units: list[str], inserts: list[tuple[int, str]]) -> list[str]:
    """Puts each insert before the unit of its position; several at one position keep their order."""
    merged: list[str] = []
    waiting = sorted(inserts, key=lambda insert: insert[0])
    at = 0
    for index in range(len(units) + 1):
        while at < len(waiting) and waiting[at][0] == index:
            merged.append(waiting[at][1])
            at += 1
        if index < len(units):
            merged.append(units[index])
    return merged


def _needle(kind: str, key: str, value: str) -> str:
    return f"One of the special magic {kind} for {key} is: {value}."


def _ask_for(keys: list[str], kind: str, appearing: dict[str, list[str]]) -> tuple[str, str]:
    values = [value for key in keys for value in appearing[key]]
    query = enumerate_in_words(keys)
    if len(values) == 1:
        one = kind[:-1]
        subject = f"the special magic {one} for {query} mentioned in the provided text"
        return f"\nWhat is {subject}? The {subject[4:]} is", f" {values[0]}."
    subject = f"the special magic {kind} for {query} mentioned in the provided text"
    return f"\nWhat are all {subject}? The {subject[4:]} are", f" {enumerate_in_words(values)}."


def _retrieval(facts: Facts, words: int) -> Example:
    """Needles in noise, prose or other needles; one or several keys, one or several values a key."""
    rng = facts.rng
    haystack = rng.choices(["noise", "prose", "needles"], [2, 4, 3])[0]
    key_kind = rng.choices(["words", "uuids"], [5, 1])[0]
    kind = rng.choices(["numbers", "words", "uuids"], [6, 1, 2])[0]
    key_count = rng.choice([1, 1, 2, 4, 4, 6, 8])
    value_count = rng.choice([1, 1, 1, 1, 2, 3, 4])

    keys = [facts.value(key_kind) for _ in range(key_count)]
    values = {key: [facts.value(kind) for _ in range(value_count)] for key in keys}
    if value_count > 1 and rng.random() < 0.5:
        for key in keys[1:]:
            values[key] = values[key][:1]
    hidden = [(key, value) for key in keys for value in values[key]]
    rng.shuffle(hidden)

    if haystack == "needles":
        # Words that tokenize as much as one distractor does.
        size = {"numbers": 22, "words": 16, "uuids": 32}[kind] + (16 if key_kind == "uuids" else 0)
        distractors = max(1, words // size)
        units = [
            _needle(kind, facts.value(key_kind), facts.value(kind)) for _ in range(distractors)
        ]
    else:
        units = facts.noise(words) if haystack == "noise" else facts.prose(words)

    places = rng.sample(range(len(units) + 1), min(len(hidden), len(units) + 1))
    places = sorted(places) + [len(units)] * (len(hidden) - len(places))
    inserts = [(at, _needle(kind, *fact)) for at, fact in zip(places, hidden)]
    body = (" " if haystack == "prose" else "\n").join(interleave(units, inserts))

    # Answers list values in the order they appear in the text.
    appearing = {key: [value for owner, value in hidden if owner == key] for key in keys}
    shuffled = rng.sample(keys, len(keys))
    if rng.random() < 0.6:
        asked = [[key] for key in shuffled[:6]]
    else:
        together = min(key_count, rng.choice([1, 1, 1, 2, 3, 4]))
        asked = [shuffled[:together]] + [[key] for key in shuffled[together : together + 3]]
    questions = [_ask_for(group, kind, appearing) for group in asked]

    one = kind[:-1]
    if len(hidden) == 1:
        opening = f"A special magic {one} is hidden within the following text."
        closing = f"I will quiz you about the {one} afterwards."
    else:
        opening = f"Some special magic {kind} are hidden within the following text."
        closing = f"I will quiz you about the {kind} afterwards."
    return Example(f"{opening} Make sure to memorize it. {closing}\n{body}", questions)


def _tracking(facts: Facts, words: int) -> Example:
    """Chains of assignments in noise: which variables end up with a value?"""
    rng = facts.rng
    hops = rng.choice([2, 3, 4, 4])
    units = facts.noise(words)
    inserts: list[tuple[int, str]] = []
    chains: list[tuple[str, list[str]]] = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        names = ["".join(rng.choices(LETTERS.upper(), k=5)) for _ in range(hops + 1)]
        value = str(rng.randint(10000, 99999))
        chains.append((value, names))
        lines = [f"VAR {names[0]} = {value}"]
        lines += [f"VAR {after} = VAR {before} " for before, after in zip(names, names[1:])]
        places = sorted(rng.randrange(len(units) + 1) for _ in lines)
        inserts += zip(places, lines)
    rng.shuffle(chains)
    questions = [
        (
            f"\nQuestion: Find all variables that are assigned the value {value} in the text above. "
            "Answer: According to the chain(s) of variable assignment in the text above, "
            f"{len(names)} variables are assigned the value {value}, they are: ",
            f"{' '.join(names)}.",
        )
        for value, names in chains
    ]
    opening = "Memorize and track the chain(s) of variable assignment hidden in the following text."
    return Example(f"{opening}\n\n" + "\n".join(interleave(units, inserts)), questions)


def _common_words(facts: Facts, words: int) -> Example:
    """A numbered list; ten of its words are repeated more often than the others."""
    rng = facts.rng
    nouns = facts.words.nouns
    pool = rng.sample(nouns, min(len(nouns), 10 + max(4, words // 9)))
    common, rare = pool[:10], pool[10:]
    common_times, rare_times = (30, 3) if words >= 600 else (max(4, words // 45), 1)
    listed = common * common_times
    room = max(1, (words // 4 - len(listed)) // rare_times)
    listed += rare[:room] * rare_times
    rng.shuffle(listed)
    answer = sorted(common, key=listed.index)
    number = lambda items: " ".join(f"{index}. {item}" for index, item in enumerate(items, 1))
    opening = (
        "Below is a numbered list of words. In these words, some appear more often than others. "
        "Memorize the ones that appear most often."
    )
    question = (
        "\nQuestion: What are the 10 most common words in the above list? "
        "Answer: The top 10 words that appear most often in the list are:"
    )
    return Example(f"{opening}\n{number(listed)}", [(question, f" {number(answer)}")])


def _frequent_words(facts: Facts, words: int) -> Example:
    """Coded words drawn from a steep power law, with dots between: which three are most frequent?"""
    rng = facts.rng
    vocabulary = ["".join(rng.choices(LETTERS, k=6)) for _ in range(60)]
    frequencies = [1 / rank**2 for rank in range(1, 61)]
    text = rng.choices(vocabulary, frequencies, k=max(12, words // 5))
    top = [word for word, _ in Counter(text).most_common(3)]
    # Dots go in at every third place of the growing list, up to the list's first length.
    for at in range(0, len(text), 3):
        text.insert(at, "." * rng.choice([3, 4, 5]))
    opening = (
        "Read the following coded text and track the frequency of each coded word. "
        "Find the three most frequently appeared coded words."
    )
    question = (
        "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. "
        "What are the three most frequently appeared words in the above coded text? "
        "Answer: According to the coded text above, the three most frequently appeared words are:"
    )
    return Example(f"{opening} {' '.join(text)}", [(question, f" {enumerate_in_words(top)}.")])


def _prose(facts: Facts, words: int) -> Example:
    return Example(" ".join(facts.prose(words)), [])


_MAKERS = {
    "retrieval": _retrieval,
    "tracking": _tracking,
    "common_words": _common_words,
    "frequent_words": _frequent_words,
    "prose": _prose,
}
