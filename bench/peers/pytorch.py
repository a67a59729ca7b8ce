"""PyTorch's process: `pytorch.py CASE THREADS`, on the CPU. See serve.ts for what it reads and writes.

Letters: B batch, T time, V vocabulary, C channels, H heads, D head size, F channels inside, L layers, R rank.
"""

import json
import math
import sys
import time


def say(**line):
    print(json.dumps(line), flush=True)


try:
    import torch
except ImportError as error:
    say(missing=f"PyTorch cannot be imported: {error}")
    sys.exit()

from torch.nn import functional as F  # noqa: E402

SMALL = dict(V=512, T=128, C=128, L=4, H=4, F=512, B=8)
GPT2 = dict(V=50257, T=64, C=768, L=12, H=12, F=3072, B=1)
RANK, ALPHA, RATE, PROMPT, ANSWER = 8, 16, 1e-3, 16, 24
LOSSES, PATIENCE, WARM, SAMPLE = 11, 10, 0.4, 0.002


def hashes(n, seed):
    """Hashes of 0 to n - 1, below 2 ** 32. What int64 loses above is above."""
    low = 0xFFFFFFFF
    x = torch.arange(n) * 2654435761 + (seed * 2246822519 + 374761393)
    x = x & low
    x = (x ^ (x >> 15)) * 2246822519 & low
    x = (x ^ (x >> 13)) * 3266489917 & low
    return x ^ (x >> 16)


def uniform(shape, seed, bound):
    x = hashes(math.prod(shape), seed).double() / 2**32
    return ((x - 0.5) * 2 * bound).float().reshape(shape)


def token_ids(n, V, seed):
    return hashes(n, seed) % V


def gpt(V, T, C, L, F, **_):
    names = [("wte", (V, C)), ("wpe", (T, C))]
    for i in range(L):
        own = [("ln1g", (C,)), ("ln1b", (C,))]
        for n in "qkvo":
            own += [(f"w{n}", (C, C)), (f"b{n}", (C,))]
        own += [("ln2g", (C,)), ("ln2b", (C,)), ("w1", (C, F)), ("b1", (F,))]
        own += [("w2", (F, C)), ("b2", (C,))]
        names += [(f"h{i}.{name}", shape) for name, shape in own]
    names += [("lnfg", (C,)), ("lnfb", (C,))]
    bound = 0.02 * math.sqrt(3)
    return {
        name: uniform(shape, 100 + i, bound) if len(shape) == 2
        else torch.full(shape, float(name.endswith("g")))
        for i, (name, shape) in enumerate(names)
    }


def adapters_of(C, L, **_):
    found = {}
    for i in range(L):
        for j, n in enumerate("qv"):
            seed = 5000 + 4 * i + 2 * j
            found[f"h{i}.a{n}"] = uniform((C, RANK), seed, C**-0.5)
            found[f"h{i}.bb{n}"] = torch.zeros(RANK, C)
    return found


def layer(p, at, x, name):
    return torch.addmm(p[f"{at}b{name}"], x, p[f"{at}w{name}"])


def norm(p, at, x, name):
    return F.layer_norm(x, x.shape[-1:], p[f"{at}ln{name}g"], p[f"{at}ln{name}b"])


def feed_forward(p, at, x):
    inner = layer(p, at, norm(p, at, x, 2), "1")
    return x + layer(p, at, F.gelu(inner, approximate="tanh"), "2")


def block(p, at, x, T, H, hidden, adapters=None):
    """A block on x [N, C]; `hidden` is true where a query must not see."""
    N, C = x.shape
    h = norm(p, at, x, 1)
    q, k, v = (layer(p, at, h, n) for n in "qkv")
    if adapters:
        scale = ALPHA / RANK
        q = q + (h @ adapters[at + "aq"]) @ adapters[at + "bbq"] * scale
        v = v + (h @ adapters[at + "av"]) @ adapters[at + "bbv"] * scale
    q, k, v = (a.view(-1, T, H, C // H).transpose(1, 2) for a in (q, k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(C // H)
    seen = torch.softmax(scores.masked_fill(hidden, -math.inf), -1) @ v
    x = x + layer(p, at, seen.transpose(1, 2).reshape(N, C), "o")
    return feed_forward(p, at, x)


def causal(T):
    return torch.ones(T, T, dtype=torch.bool).triu(1)


def summary(x):
    x = x.detach().double().flatten()
    return [x[0].item(), x[-1].item(), x.square().mean().sqrt().item()]


def computed(f, *args):
    def run():
        f(*args)

    return run, lambda: summary(f(*args))


def product(m, k, n):
    return computed(torch.matmul, uniform((m, k), 1, 1), uniform((k, n), 2, 1))


def gelu_sum(x, y, z):
    return F.gelu(x * y + z, approximate="tanh").sum(-1)


def block_gradients():
    B, T, C, H = 4, 128, 256, 8
    p = gpt(V=8, T=8, C=C, L=1, F=1024)
    p = {name: x.requires_grad_() for name, x in p.items() if name[:3] == "h0."}
    x, ct = (uniform((B * T, C), seed, 1) for seed in (11, 12))
    x.requires_grad_()
    hidden = causal(T)

    def gradients():
        loss = (block(p, "h0.", x, T, H, hidden) * ct).sum()
        return torch.autograd.grad(loss, [x, *p.values()])

    def facts():
        found = gradients()
        return summary(found[0]) + summary(found[1 + list(p).index("h0.wq")])

    def run():
        gradients()

    return run, facts


def trained(sizes, is_lora):
    B, T, V, L, H = (sizes[name] for name in "BTVLH")
    p = gpt(**sizes)
    adapters = adapters_of(**sizes) if is_lora else None
    trainable = [x.requires_grad_() for x in (adapters or p).values()]
    optimizer = torch.optim.AdamW(trainable, lr=RATE, weight_decay=0.01)
    ids = token_ids(B * (T + 1), V, 7).reshape(B, T + 1)
    x, y = ids[:, :-1], ids[:, 1:].reshape(-1)
    hidden = causal(T)
    losses = []

    def step():
        optimizer.zero_grad(set_to_none=True)
        h = (p["wte"][x] + p["wpe"]).view(B * T, -1)
        for i in range(L):
            h = block(p, f"h{i}.", h, T, H, hidden, adapters)
        loss = F.cross_entropy(norm(p, "", h, "f") @ p["wte"].t(), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    def facts():
        start = time.perf_counter()
        while len(losses) < LOSSES and time.perf_counter() - start < PATIENCE:
            step()
        return losses[:LOSSES]

    return step, facts


def answered():
    C, H, L, V, S = (GPT2[name] for name in "CHLVT")
    D = C // H
    p = gpt(**GPT2)
    keys, values = torch.zeros(L, H, S, D), torch.zeros(L, H, S, D)
    asked = token_ids(PROMPT, V, 9).tolist()
    ids = []

    def step(token, at):
        x = (p["wte"][token] + p["wpe"][at]).view(1, C)
        for i in range(L):
            h = norm(p, f"h{i}.", x, 1)
            q, k, v = (layer(p, f"h{i}.", h, n).view(H, 1, D) for n in "qkv")
            keys[i, :, at], values[i, :, at] = k[:, 0], v[:, 0]
            scores = q @ keys[i, :, : at + 1].transpose(-1, -2)
            weights = torch.softmax(scores / math.sqrt(D), -1)
            seen = (weights @ values[i, :, : at + 1]).view(1, C)
            x = feed_forward(p, f"h{i}.", x + layer(p, f"h{i}.", seen, "o"))
        return int((norm(p, "", x, "f") @ p["wte"].t()).argmax())

    def run():
        ids.clear()
        times = []
        with torch.no_grad():
            for i, token in enumerate(asked):
                found = step(token, i)
            ids.append(found)
            for i in range(PROMPT, PROMPT + ANSWER - 1):
                start = time.perf_counter()
                ids.append(step(ids[-1], i))
                times.append((time.perf_counter() - start) * 1e3)
        return times

    return run, lambda: ids


WORKLOADS = {
    **{f"W1 {n}": lambda n=n: product(n, n, n) for n in (256, 512, 1024, 2048)},
    "W1 512x768x8": lambda: product(512, 768, 8),
    "W1 512x8x768": lambda: product(512, 8, 768),
    "W2 gelu-sum": lambda: computed(
        gelu_sum, *(uniform((4096, 1024), seed, 2) for seed in (1, 2, 3))
    ),
    "W2 softmax": lambda: computed(
        lambda x: torch.softmax(x, -1), uniform((4096, 512), 4, 4)
    ),
    "W2 layer-norm": lambda: computed(
        lambda x, *wb: F.layer_norm(x, (768,), *wb),
        uniform((4096, 768), 5, 2),
        uniform((768,), 6, 1),
        uniform((768,), 7, 1),
    ),
    "W3 gradients": block_gradients,
    "W4 step": lambda: trained(SMALL, False),
    "W5 small": lambda: trained(SMALL, True),
    "W5 gpt2": lambda: trained(GPT2, True),
    "W5 gpt2-full": lambda: trained(GPT2, False),
    "W6 f32": answered,
}


def timed(run):
    start = time.perf_counter()
    parts = run()
    return time.perf_counter() - start, parts


def main(name, threads):
    torch.set_num_threads(int(threads))
    if name not in WORKLOADS:
        return say(absent="it has no such workload")
    run, facts = WORKLOADS[name]()
    first, _ = timed(run)
    say(first=first * 1e3, facts=facts(), bytes=None)
    start, fastest = time.perf_counter(), math.inf
    while first < PATIENCE and time.perf_counter() - start < WARM:
        fastest = min(fastest, timed(run)[0])
    runs = max(1, math.ceil(SAMPLE / fastest))
    for budget in sys.stdin:
        if first < PATIENCE:
            run()
        times, start = [], time.perf_counter()
        while not times or (time.perf_counter() - start) * 1e3 < float(budget):
            took = [timed(run) for _ in range(runs)]
            mean = sum(seconds for seconds, _ in took) / runs * 1e3
            times += took[-1][1] or [mean]
        say(times=times)


main(*sys.argv[1:])
