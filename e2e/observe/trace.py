"""Draws the traces that e2e/observe/receiver wrote down, as text and as a page; fails where one is not whole.

    trace.py TRACES PAGE
"""
import html
import json
import sys

WIDTH, LEFT, ROW = 1480, 420, 24
COLORS = {"OK": "#73BF69", "ERROR": "#F2495C", "": "#5794F2"}


def value(one):
    return next(iter(one["value"].values()), "") if "value" in one else ""


def attributes(of):
    return {one["key"]: value(one) for one in of.get("attributes", [])}


def read(path):
    traces = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            for resource in json.loads(line)["resourceSpans"]:
                sender = attributes(resource["resource"])
                for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
                    spans = traces.setdefault(span["traceId"], {})
                    if span["spanId"] in spans:
                        sys.exit(f"{span['name']} came twice")
                    began, ended = int(span["startTimeUnixNano"]) / 1e9, int(span["endTimeUnixNano"]) / 1e9
                    code = {1: "OK", 2: "ERROR"}.get(span.get("status", {}).get("code", 0), "")
                    spans[span["spanId"]] = {
                        "name": span["name"], "began": began, "ended": ended, "parent": span.get("parentSpanId", ""), "code": code,
                        "said": attributes(span), "events": span.get("events", []), "by": sender.get("service.instance.id", "?"),
                    }
    return traces


def walk(spans, own, depth=0):
    yield depth, spans[own]
    children = [key for key, span in spans.items() if span["parent"] == own]
    for child in sorted(children, key=lambda key: (spans[key]["began"], spans[key]["ended"])):
        yield from walk(spans, child, depth + 1)


def picture(identity, rows):
    root = rows[0][1]
    first = min(span["began"] for _, span in rows)
    last = max(span["ended"] for _, span in rows)
    x = lambda at: LEFT + (at - first) / max(last - first, 0.001) * (WIDTH - LEFT - 70)
    said = root["said"]
    told = f'{root["name"]} · {said["container.image.name"]} · {said["serin.outcome"]}: {said["serin.reason"]}'
    out = [f'<h2>{html.escape(told)}</h2><p>trace {identity}</p><svg width="{WIDTH}" height="{len(rows) * ROW}">']
    for number, (depth, span) in enumerate(rows):
        top = number * ROW
        out.append(f'<text x="{8 + 16 * depth}" y="{top + 16}">{html.escape(span["name"])}</text>')
        wide = max(x(span["ended"]) - x(span["began"]), 2)
        out.append(f'<rect x="{x(span["began"]):.1f}" y="{top + 5}" width="{wide:.1f}" height="13" rx="2" fill="{COLORS[span["code"]]}"/>')
        for event in span["events"]:
            out.append(f'<circle cx="{x(int(event["timeUnixNano"]) / 1e9):.1f}" cy="{top + 11}" r="2.5" fill="#fff"/>')
        out.append(f'<text x="{x(span["ended"]) + 6:.1f}" y="{top + 16}" class="took">{span["ended"] - span["began"]:.2f} s</text>')
    return "".join(out) + "</svg>", 78 + len(rows) * ROW


def main():
    pages, tall = [], 20
    for identity, spans in sorted(read(sys.argv[1]).items(), key=lambda one: min(span["began"] for span in one[1].values())):
        roots = [key for key, span in spans.items() if not span["parent"]]
        if len(roots) != 1:
            sys.exit(f"trace {identity} has {len(roots)} roots: {[span['name'] for span in spans.values()]}")
        rows = list(walk(spans, roots[0]))
        if len(rows) != len(spans):
            sys.exit(f"trace {identity}: spans without a parent")
        print(f"trace {identity}, sent by {', '.join(sorted({span['by'] for span in spans.values()}))}")
        for depth, span in rows:
            since = span["began"] - rows[0][1]["began"]
            told = " ".join(f"{key.removeprefix('serin.')}={text}" for key, text in span["said"].items() if key in SHOWN)
            print(f"{since:7.2f} s {span['ended'] - span['began']:6.2f} s  {'  ' * depth}{span['name']} {span['code']} {told}".rstrip())
        drawn, height = picture(identity, rows)
        pages.append(drawn)
        tall += height
    with open(sys.argv[2], "w", encoding="utf-8") as page:
        page.write(f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style><body data-height="{tall}">{"".join(pages)}')


SHOWN = {"serin.outcome", "serin.reason", "serin.analysis.verdict", "serin.step.outcome", "serin.weight", "vcs.ref.head.revision", "serin.wait.reason"}
STYLE = """body{margin:10px;background:#111217;color:#ccccdc;font:13px Inter,Helvetica,Arial,sans-serif}
h2{font-size:15px;font-weight:500;margin:14px 0 0}p{margin:2px 0 6px;color:#8e8f9b}svg text{fill:#ccccdc;font-size:12px}svg .took{fill:#8e8f9b}"""
main()
