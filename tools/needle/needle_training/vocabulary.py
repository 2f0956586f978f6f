"""The tokenizer: byte-level BPE with 4,096 ids, trained on prose and on examples of every task."""

import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from .corpus import Facts, Words
from .tasks import draw_task, make_example

SIZE = 4096
BEGIN, END, PAD = 0, 1, 2
CONTROL_TOKENS = ["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"]


def train_tokenizer(documents: list[str], words: Words) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # A number is then as many tokens as it has digits: copying it needs no arithmetic.
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()

    rng = random.Random(0)
    facts = Facts(rng, words, [])
    texts = documents[::2]
    texts += [" ".join(facts.word() for _ in range(20)) for _ in range(3000)]
    for _ in range(600):
        example = make_example(facts, 80, draw_task(rng))
        texts.append(example.context + "".join(q + a for q, a in example.questions))

    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=CONTROL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CONTROL_TOKENS[BEGIN]} $A", special_tokens=[(CONTROL_TOKENS[BEGIN], BEGIN)]
    )
    return tokenizer


def load_or_train(path: Path, documents: list[str], words: Words) -> Tokenizer:
    if not path.exists():
        train_tokenizer(documents, words).save(str(path))
    return Tokenizer.from_file(str(path))
