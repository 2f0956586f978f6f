"""Hugging Face transformers on a model folder: prefill and decode, one JSON object a line.

bfloat16, attention by scaled_dot_product_attention, greedy. Decode is timed with a cache that grows (DynamicCache, what
`generate` uses by default) and with one of fixed size (StaticCache), both without torch.compile.
"""

import argparse
import json
import statistics
import time

import torch
from transformers import AutoModelForCausalLM, DynamicCache, StaticCache
from transformers import __version__ as version

WARM, STEPS = 4, 32


def emit(**line):
    print(json.dumps(line), flush=True)


def seconds(call):
    torch.cuda.synchronize()
    started = time.perf_counter()
    result = call()
    torch.cuda.synchronize()
    return time.perf_counter() - started, result


def tokens(count, vocab):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, vocab, (1, count), generator=generator).cuda()


def prefill(model, ids, cache):
    return model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)


def decode(model, out, cache, position):
    """Milliseconds of a step, median."""
    next_id = out.logits[:, -1].argmax(-1, keepdim=True)
    times = []
    for step in range(WARM + STEPS):
        at = torch.tensor([[position + step]], device="cuda")
        spent, out = seconds(
            lambda: model(next_id, past_key_values=cache, use_cache=True, position_ids=at)  # noqa: B023
        )
        next_id = out.logits[:, -1].argmax(-1, keepdim=True)
        times.append(1000 * spent)
    return statistics.median(times[WARM:])


def measure(model, length, prefill_only):
    ids = tokens(length, model.config.vocab_size)
    shape = f"{length} tokens"
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(3 if length <= 16384 else 1):
        cache = DynamicCache(config=model.config)
        spent, out = seconds(lambda: prefill(model, ids, cache))  # noqa: B023
        times.append(1000 * spent)
    ms = statistics.median(times)
    emit(name="transformers prefill", batch=1, length=length, shape=shape, ms=ms, tokensPerSecond=1000 * length / ms)
    if prefill_only:
        return
    ms = decode(model, out, cache, length)
    peak = torch.cuda.max_memory_allocated()
    emit(name="transformers decode", batch=1, length=length, shape=shape, ms=ms, tokensPerSecond=1000 / ms, peakBytes=peak)
    del cache, out
    torch.cuda.empty_cache()
    if length > 32768:  # a fixed cache needs a mask of length x length
        return
    try:
        cache = StaticCache(config=model.config, max_cache_len=length + WARM + STEPS)
        _, out = seconds(lambda: prefill(model, ids, cache))
        ms = decode(model, out, cache, length)
        emit(name="transformers decode, static cache", batch=1, length=length, shape=shape, ms=ms, tokensPerSecond=1000 / ms)
    except (RuntimeError, TypeError, ValueError) as error:
        emit(name="transformers decode, static cache", length=length, skipped=str(error).splitlines()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--lengths", default="4096")
    parser.add_argument("--seconds", type=float, default=300, help="start no length after this")
    parser.add_argument("--prefill-only", action="store_true", help="no decode steps")
    args = parser.parse_args()
    started = time.perf_counter()
    spent, model = seconds(
        lambda: AutoModelForCausalLM.from_pretrained(
            args.model, dtype=torch.bfloat16, attn_implementation="sdpa", use_safetensors=True
        ).to("cuda")
    )
    model.eval()
    emit(name="transformers load", shape=version, seconds=spent)
    with torch.inference_mode():
        prefill(model, tokens(4096, model.config.vocab_size), DynamicCache(config=model.config))
        for length in (int(n) for n in args.lengths.split(",")):
            # A prompt is read four times at most; a guess from 60 TFLOP/s is enough to keep the limit.
            left = args.seconds - (time.perf_counter() - started)
            need = 4 + length / 5000 * (1 + length / 40000)
            if left < need:
                emit(name="transformers", length=length, skipped=f"{left:.0f} s left, {need:.0f} needed")
                continue
            try:
                measure(model, length, args.prefill_only)
            except torch.cuda.OutOfMemoryError as error:
                emit(name="transformers", length=length, skipped=str(error).splitlines()[0])
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
