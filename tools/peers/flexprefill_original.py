"""The original FlexPrefill (github.com/bytedance/FlexPrefill) and cuDNN's dense attention: one JSON object a line.

FOLDER holds N.json ({"tokens": N, "heads": 32, "kvHeads": 8, "headDim": 128}) and N.q.bin, N.k.bin, N.v.bin: raw
bfloat16, token-major. CUDA events, median of several samples. Density is computed blocks over causal blocks.
"""

import argparse
import importlib.machinery
import importlib.util
import json
import pathlib
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

BLOCK = 128


def emit(**line):
    print(json.dumps(line), flush=True)


def time_us(call, samples):
    """Microseconds of a call. The first two compile and warm up."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def sample(calls):
        torch.cuda.synchronize()
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        torch.cuda.synchronize()
        return 1000 * begin.elapsed_time(end) / calls

    sample(2)
    calls = max(1, min(50, round(20000 / sample(1))))
    return statistics.median(sample(calls) for _ in range(samples))


def rearrange(tensor, pattern):
    """Stands in for einops.rearrange, for the one pattern of the original."""
    if pattern != "b h g i j -> b (h g) i j":
        raise NotImplementedError(f"Install einops for {pattern!r}.")
    return tensor.flatten(1, 2)


def load_original(source):
    """flex_prefill_attention of the file. Stand-ins take the place of einops and transformers where missing."""
    stand_ins = {
        "einops": {"rearrange": rearrange},
        "transformers.utils": {"is_flash_attn_2_available": lambda: False},
    }
    for name, members in stand_ins.items():
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            sys.modules[name] = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, None))
            vars(sys.modules[name]).update(members)
    spec = importlib.util.spec_from_file_location("flex_prefill_original", source)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.flex_prefill_attention


def load(path, *shape):
    size = torch.Size(shape).numel()
    if path.stat().st_size != 2 * size:
        raise ValueError(f"{path} holds {path.stat().st_size} bytes, not {2 * size}.")
    return torch.from_file(str(path), shared=False, size=size, dtype=torch.bfloat16).view(shape).cuda()


def dense(q, k, v, samples):
    q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        call = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)  # noqa: E731
        return {"us": time_us(call, samples)}


def original(attention, q, k, v, args):
    options = {"min_budget": args.min_budget, "max_budget": None, "block_size": BLOCK}
    _, ratio = attention(q, k, v, args.gamma, args.tau, return_computational_ratio=True, **options)
    # The ratio is over all blocks of the square, except that short prompts, which run dense, report 1.
    blocks = -(-q.shape[1] // BLOCK)
    density = 1.0 if ratio == 1 else ratio * 2 * blocks / (blocks + 1)
    us = time_us(lambda: attention(q, k, v, args.gamma, args.tau, **options), args.samples)
    return {"us": us, "density": density}


def attempt(name, tokens, work):
    try:
        emit(name=name, tokens=tokens, **work())
    except Exception as error:
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        emit(name=name, tokens=tokens, skipped=message)
    torch.cuda.empty_cache()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--source", help="flex_prefill/ops/flex_prefill_attention.py of a checkout")
    parser.add_argument("--gamma", type=float, default=0.9)
    parser.add_argument("--tau", type=float, default=0.1)
    parser.add_argument("--min-budget", type=int, default=512)
    parser.add_argument("--samples", type=int, default=5)
    args = parser.parse_args()
    attention = None
    if args.source:
        try:
            attention = load_original(args.source)
        except Exception as error:
            emit(name="original FlexPrefill", skipped=f"{type(error).__name__}: {error}")
    shapes = [json.loads(path.read_text()) for path in args.folder.glob("*.json") if path.stem.isdigit()]
    with torch.inference_mode():
        for shape in sorted(shapes, key=lambda shape: shape["tokens"]):
            tokens, heads = shape["tokens"], {"q": shape["heads"], "k": shape["kvHeads"], "v": shape["kvHeads"]}
            try:
                q, k, v = (
                    load(args.folder / f"{tokens}.{x}.bin", 1, tokens, heads[x], shape["headDim"]) for x in "qkv"
                )
            except Exception as error:
                emit(name="data", tokens=tokens, skipped=str(error))
                continue
            attempt("cuDNN dense", tokens, lambda: dense(q, k, v, args.samples))
            if attention:
                attempt("original FlexPrefill", tokens, lambda: original(attention, q, k, v, args))
            del q, k, v


if __name__ == "__main__":
    main()
