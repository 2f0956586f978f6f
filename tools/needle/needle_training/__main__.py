"""python -m needle_training --text texts --words words --out out"""

import argparse
import random
from pathlib import Path

from .batches import BatchSource, RowMaker
from .corpus import Words, read_documents
from .evaluate import evaluate
from .export import export_model
from .model import Shape
from .train import Phase, Settings, train
from .vocabulary import load_or_train


def parse_phases(text: str) -> list[Phase]:
    """`512:1,1024:2` is two phases, the second twice as long."""
    pairs = (part.split(":") for part in text.split(","))
    return [Phase(int(length), float(share)) for length, share in pairs]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="needle_training", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--text", type=Path, required=True, help="folder of public-domain .txt files")
    add("--words", type=Path, required=True, help="folder with adjectives.txt and nouns.txt")
    add("--out", type=Path, default=Path("out"), help="model directory to write")
    add("--minutes", type=float, default=9, help="training time")
    add("--phases", type=parse_phases, default="512:1,1024:1,2048:1,4096:1", help="length:share, ...")
    add("--rate", type=float, default=1.0, help="factor on all learning rates")
    add("--no-decay", action="store_true", help="keep the learning rate (to be resumed later)")
    add("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    add("--workers", type=int, default=13, help="processes that make examples")
    add("--tokens-a-step", type=int, default=131072)
    add("--evaluate", default="1024,4096,8192,16384", help="lengths to evaluate, at most 2x trained")
    add("--examples", type=int, default=64, help="evaluation examples a task and length")
    add("--hidden", type=int, default=Shape.hidden)
    add("--layers", type=int, default=Shape.layers)
    add("--intermediate", type=int, default=Shape.intermediate)
    add("--device", default="cuda", choices=["cuda", "cpu"])
    add("--no-compile", action="store_true", help="run without torch.compile")
    add("--seed", type=int, default=0, help="seed of the examples")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    documents = read_documents(arguments.text)
    words = Words.read(arguments.words)
    tokenizer_path = arguments.out / "tokenizer.json"
    tokenizer = load_or_train(tokenizer_path, documents, words)

    # Workers fork before the first CUDA call: a CUDA context does not survive a fork.
    source = BatchSource(
        workers=arguments.workers,
        tokens_a_step=arguments.tokens_a_step,
        length=arguments.phases[0].length,
        documents=documents,
        words=words,
        tokenizer_path=tokenizer_path,
        seed=arguments.seed * 1000,
    )
    try:
        shape = Shape(
            hidden=arguments.hidden, layers=arguments.layers, intermediate=arguments.intermediate
        )
        settings = Settings(
            minutes=arguments.minutes,
            phases=arguments.phases,
            rate=arguments.rate,
            decay=not arguments.no_decay,
            resume=arguments.resume,
            device=arguments.device,
            compile_kernels=not arguments.no_compile,
        )
        model = train(shape, settings, source, arguments.out)
    finally:
        source.close()
    export_model(model, arguments.out)

    maker = RowMaker(random.Random(12345), words, documents, tokenizer)
    longest = 2 * max(phase.length for phase in arguments.phases)
    lengths = [int(n) for n in arguments.evaluate.split(",") if int(n) <= longest]
    scores = evaluate(model, maker, lengths, arguments.device, arguments.examples)
    print("task@length           exact  tokens")
    for name, (exact, token_share) in scores.items():
        print(f"{name:21} {exact:5.2f}  {token_share:6.3f}")


if __name__ == "__main__":
    main()
