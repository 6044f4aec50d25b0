"""Runs a list of configurations one at a time, each in its own process; appends JSON lines to results.jsonl,
skipping what is there. python3 sweep.py SET [SET...]; sets below."""
import json, os, subprocess, sys, itertools
H = os.path.dirname(os.path.abspath(__file__))
V = lambda n: f"{H}/venvs/{n}/bin/python"
PEERS = {  # name: (venv, script, flags)
    "torch-naive": ("th", "peer_torch_naive.py", []),
    "torch-naive-compile": ("th", "peer_torch_naive.py", ["--compile"]),
    "torch-naive-denseemb": ("th", "peer_torch_naive.py", ["--emb", "dense"]),
    "torch-level-cat": ("th", "peer_torch_level.py", ["--variant", "cat"]),
    "torch-level-carry": ("th", "peer_torch_level.py", ["--variant", "carry"]),
    "torch-level-manual": ("th", "peer_torch_level.py", ["--variant", "manual"]),
    "torch-level-carry-compile": ("th", "peer_torch_level.py", ["--variant", "carry", "--compile", "--warm-passes", "3"]),
    "torch-level-manual-denseemb": ("th", "peer_torch_level.py", ["--variant", "manual", "--emb", "dense"]),
    "dgl": ("dgl", "peer_dgl.py", []),
    "dynet-gates": ("dy", "peer_dynet.py", []),
    "dynet-fused": ("dy", "peer_dynet.py", ["--cell", "fused"]),
    "dynet-noautobatch": ("dy", "peer_dynet.py", ["--autobatch", "0"]),
    "mxnet-naive": ("mx", "peer_mxnet.py", []),
    "mxnet-hybrid": ("mx", "peer_mxnet.py", ["--hybridize"]),
    "mxnet-hybrid-static": ("mx", "peer_mxnet.py", ["--hybridize", "--static"]),
    "mxnet-naive-NaiveEngine": ("mx", "peer_mxnet.py", ["--engine", "naive"]),
    "mxnet-naive-denseemb": ("mx", "peer_mxnet.py", ["--emb", "dense"]),
    "recursive_gluon": ("mx", "peer_rg.py", []),
    "mxnet-level": ("mx", "peer_mxnet_level.py", []),
    "mxnet-level-hybrid": ("mx", "peer_mxnet_level.py", ["--hybridize"]),
    "jax": ("jax", "peer_jax.py", ["--warm-passes", "1"]),
    "tf-eager": ("tf", "peer_tf.py", ["--style", "eager"]),
    "tf-while": ("tf", "peer_tf.py", ["--style", "while"]),
}
T2 = ["dynet-gates", "torch-level-manual", "torch-level-carry", "torch-level-cat", "dgl", "torch-naive", "jax", "tf-while",
      "tf-eager", "mxnet-naive", "mxnet-hybrid", "recursive_gluon"]
T1 = ["recursive_gluon", "torch-level-manual", "torch-level-carry", "dgl", "torch-naive", "jax", "mxnet-naive", "mxnet-hybrid", "mxnet-hybrid-static"]
REST2 = ["dynet-gates", "torch-level-manual", "torch-level-carry", "dgl", "torch-naive", "jax", "tf-while", "tf-eager", "recursive_gluon"]
REST1 = ["recursive_gluon", "mxnet-naive", "mxnet-hybrid"]
def grid(peers, models, batches, modes=("train", "infer"), trees=("sst",), threads=(2,)):
    return [dict(peer=p, model=m, batch=b, mode=o, trees=t, threads=th)
            for t, m, b, o, th, p in itertools.product(trees, models, batches, modes, threads, peers)]
L = ["treelstm"]
SETS = {
    "lstm": [c for b in (25, 1, 10) for c in grid(T2, L, [b]) + grid(T1, L, [b], threads=[1])],
    "rest": [c for m in ("treernn", "rntn") for b in (25, 1, 10) for c in grid(REST2, [m], [b]) + grid(REST1, [m], [b], threads=[1])],
    "shapes": [c for t in ("balanced32", "linear32") for c in
               grid(["dynet-gates", "torch-level-manual", "torch-level-carry", "dgl", "torch-naive", "jax", "tf-while"], L, [25, 1], trees=[t])
               + grid(["recursive_gluon", "mxnet-hybrid"], L, [25, 1], trees=[t], threads=[1])],
    "shapes2": [c for t in ("balanced16", "linear16", "balanced64", "linear64") for c in
                grid(["dynet-gates", "torch-level-manual", "jax"], L, [25], trees=[t])],
    "variants": grid(["dynet-fused", "dynet-noautobatch", "torch-naive-denseemb", "torch-level-manual-denseemb", "torch-naive-compile",
                      "torch-level-carry-compile"], L, [25, 1]) + grid(["mxnet-naive-NaiveEngine", "mxnet-naive-denseemb"], L, [25, 1], threads=[1]),
    "mxlevel": grid(["mxnet-level", "mxnet-level-hybrid"], L, [25, 1, 10], threads=[2, 1]) +
               grid(["mxnet-level"], ["treernn", "rntn"], [25, 1], threads=[1]) + grid(["mxnet-level"], L, [25], trees=["balanced32", "linear32"], threads=[1]),
    "realsst": grid(["dynet-gates", "torch-level-manual", "jax"], L, [25], trees=["file:../data/sst/train.txt"]),
}
OUT = os.environ.get("RESULTS", H + "/results.jsonl")
SEC = os.environ.get("SECONDS_PER", "5")
key = lambda d: (d["peer"], d["model"], d["batch"], d["mode"], d["trees"], d["threads"])
done = set()
if os.path.exists(OUT):
    for l in open(OUT): done.add(tuple(json.loads(l)["key"]))
for s in sys.argv[1:]:
    for c in SETS[s]:
        if key(c) in done: continue
        venv, script, fl = PEERS[c["peer"]]
        cmd = [V(venv), script, "--model", c["model"], "--batch", str(c["batch"]), "--mode", c["mode"], "--trees", c["trees"],
               "--threads", str(c["threads"]), "--seconds", SEC, "--patience", "30", "--json"] + fl
        env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "OPENBLAS_"))}
        env["OMP_NUM_THREADS"] = str(c["threads"])
        try:
            r = subprocess.run(cmd, cwd=H, env=env, capture_output=True, text=True, timeout=400)
            lines = [l for l in r.stdout.splitlines() if l.startswith("{")]
            d = json.loads(lines[-1]) if lines else dict(error=(r.stderr or r.stdout)[-400:])
        except subprocess.TimeoutExpired:
            d = dict(error="timeout 400 s")
        d["key"] = key(c); d["cmd"] = " ".join(cmd[1:])
        with open(OUT, "a") as f: f.write(json.dumps(d) + "\n")
        done.add(key(c))
        print(c["peer"], c["model"], c["batch"], c["mode"], c["trees"], "t%d" % c["threads"], d.get("trees_per_s", d.get("error")),
              d.get("spread_pct"), "other", d.get("other_cpu_pct"), "win", d.get("windows"), flush=True)
