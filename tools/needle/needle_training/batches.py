"""Examples as rows of token ids and loss weights, made by worker processes while the GPU works."""

import multiprocessing
import os
import queue
import random
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from .corpus import Facts, Words, haystack_documents
from .tasks import draw_task, make_example
from .vocabulary import BEGIN, END, PAD

# Loss weights. The context is worth something (it teaches the language), the answer is the point.
CONTEXT_WEIGHT, QUESTION_WEIGHT, ANSWER_WEIGHT = 0.15, 0.02, 1.0

TOKENS_A_WORD = 1.45


class RowMaker:
    """Turns examples into rows of exactly `length + 1` ids: inputs and targets, shifted by one."""

    def __init__(
        self, rng: random.Random, words: Words, documents: list[str], tokenizer: Tokenizer
    ):
        self.rng = rng
        self.facts = Facts(rng, words, haystack_documents(documents))
        self.tokenizer = tokenizer

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def row(self, length: int, task: str | None = None) -> tuple[list[int], list[float]]:
        """A row. With `task`, a test row: full length, that task, one question."""
        testing = task is not None
        chosen = task or draw_task(self.rng)
        words = int((length - 120) / TOKENS_A_WORD)
        if not testing and self.rng.random() >= 0.7:
            words = int(words * self.rng.uniform(0.25, 1))

        ids: list[int] = []
        weights: list[float] = []
        # Words become tokens at a rate that differs by task: shrink until context and a question fit.
        for _ in range(6):
            example = make_example(self.facts, max(20, words), chosen)
            context = [BEGIN, *self._ids(example.context)]
            room = length + 1 - len(context)
            tail: list[int] = []
            tail_weights: list[float] = []
            for question, answer in example.questions:
                asked, answered = self._ids(question), [*self._ids(answer), END]
                if len(tail) + len(asked) + len(answered) > room:
                    break
                tail += asked + answered
                tail_weights += [QUESTION_WEIGHT] * len(asked) + [ANSWER_WEIGHT] * len(answered)
                if testing:
                    break
            ids = context + tail
            weights = [CONTEXT_WEIGHT] * len(context) + tail_weights
            answered_something = bool(tail) or not example.questions
            if answered_something and len(context) <= length + 1:
                break
            words = int(words * min(0.93, length / (len(ids) + 60)))

        missing = max(0, length + 1 - len(ids))
        ids, weights = ids[: length + 1], weights[: length + 1]
        return ids + [PAD] * missing, weights + [0.0] * missing


class BatchSource:
    """Worker processes that keep a queue of batches full. `length` may change while they run."""

    def __init__(
        self,
        *,
        workers: int,
        tokens_a_step: int,
        length: int,
        documents: list[str],
        words: Words,
        tokenizer_path: Path,
        seed: int,
    ):
        context = multiprocessing.get_context("fork")
        self._queue = context.Queue(48)
        self._length = context.Value("i", length)
        self._stop = context.Value("b", 0)
        self._processes = [
            context.Process(
                target=self._work,
                args=(seed + index, tokens_a_step, documents, words, tokenizer_path),
                daemon=True,
            )
            for index in range(workers)
        ]
        for process in self._processes:
            process.start()

    @property
    def length(self) -> int:
        return self._length.value

    @length.setter
    def length(self, length: int) -> None:
        self._length.value = length

    def next(self) -> tuple[int, np.ndarray, np.ndarray]:
        """(length, ids int16 [rows, length + 1], weights float16 [rows, length + 1])."""
        return self._queue.get()

    def waiting(self) -> int:
        return self._queue.qsize()

    def close(self) -> None:
        self._stop.value = 1
        for process in self._processes:
            process.terminate()

    def _work(
        self,
        seed: int,
        tokens_a_step: int,
        documents: list[str],
        words: Words,
        tokenizer_path: Path,
    ) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        tokenizer = Tokenizer.from_file(str(tokenizer_path))
        maker = RowMaker(random.Random(seed), words, documents, tokenizer)
        while not self._stop.value:
            length = self._length.value
            rows = max(1, tokens_a_step // length)
            ids = np.zeros((rows, length + 1), np.int16)
            weights = np.zeros((rows, length + 1), np.float16)
            for index in range(rows):
                ids[index], weights[index] = maker.row(length)
            while not self._stop.value:
                try:
                    self._queue.put((length, ids, weights), timeout=1)
                    break
                except queue.Full:
                    continue
