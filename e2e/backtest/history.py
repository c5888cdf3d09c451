"""Writes days of Istio's metrics of one workload as OpenMetrics: what a mesh would have counted, with a seed.

Requests follow the day, a revision is followed by another, pods restart, failures come in small bursts of one pod, and for ten
minutes a database is down.
"""

import math
import random
import sys

STEP = 30
DAYS = 4
UNTIL = 1795305600  # 2026-11-22T00:00:00Z
PODS = 6
BOUNDS = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000]
RATE = 0.002
OUTAGE = range(UNTIL - 3 * 86400 + 36000, UNTIL - 3 * 86400 + 36600)


def poisson(chance, mean):
    if mean > 50:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count


def slower(bound):
    """The part of requests that takes longer: lognormal, 40 ms, 0.8."""
    return 0.5 * math.erfc(math.log(bound / 40) / 0.8 / math.sqrt(2))


def main():
    chance = random.Random(7)
    counts, counters = {}, {}
    lines = {"requests": [], "duration": []}
    parts = [1 - slower(BOUNDS[0])]
    parts += [slower(low) - slower(high) for low, high in zip(BOUNDS, BOUNDS[1:])] + [slower(BOUNDS[-1])]
    for at in range(UNTIL - DAYS * 86400, UNTIL + 1, STEP):
        revision = "6c4f9d7b58" if at < UNTIL - 2 * 86400 else "7d9c5b6f44"
        mean = STEP * (60 + 40 * math.sin(at / 86400 * 2 * math.pi))
        rate = 0.3 if at in OUTAGE else RATE
        for pod in range(PODS):
            key = ("pod", pod, revision)
            if chance.random() < 1 / 20000:
                counters.pop(key, None)
            good, bad = counters.setdefault(key, [0, 0])
            fails = sum(1 + int(chance.expovariate(0.7)) for _ in range(poisson(chance, mean / PODS * rate / 2)))
            serves = poisson(chance, mean / PODS)
            counters[key] = [good + serves, bad + fails]
            gate = counts.setdefault(("gateway", revision), [0, 0])
            gate[0] += serves
            gate[1] += fails
            server(lines, "destination", f"checkout-{revision}-{pod}", revision, counters[key], at)
        server(lines, "source", "gateway-0", revision, counts["gateway", revision], at)
        buckets = counters.setdefault(("buckets", revision), [0] * len(parts))
        below = 0
        for index, part in enumerate(parts):
            buckets[index] += poisson(chance, mean * part)
            below += buckets[index]
            le = f"{BOUNDS[index]}" if index < len(BOUNDS) else "+Inf"
            name = f'istio_request_duration_milliseconds_bucket{{{labels("source", "gateway-0", revision)},le="{le}"}}'
            lines["duration"].append(f"{name} {below} {at}")
    with open(sys.argv[1], "w", encoding="ascii") as out:
        out.write("# TYPE istio_requests counter\n" + "\n".join(lines["requests"]))
        out.write("\n# TYPE istio_request_duration_milliseconds_bucket gauge\n" + "\n".join(lines["duration"]))
        out.write("\n# EOF\n")


def labels(reporter, pod, revision):
    return (
        f'reporter="{reporter}",destination_workload_namespace="shop",destination_workload="checkout-{revision}",'
        f'destination_canonical_revision="{revision}",pod="{pod}",instance="{pod}:15020"'
    )


def server(lines, reporter, pod, revision, count, at):
    for code, value in zip(("200", "503"), count):
        if value or code == "200":
            name = f'istio_requests_total{{{labels(reporter, pod, revision)},response_code="{code}"}}'
            lines["requests"].append(f"{name} {value} {at}")


main()
