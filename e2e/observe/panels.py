"""Asks every panel of a dashboard what it has, fails if one is empty, and draws the answers as a page.

    panels.py DASHBOARD BEGAN ENDED PAGE

This is not Grafana: it reads the fields of the dashboard that Serin's has, and draws them much as Grafana does.
PROMETHEUS is the address.
"""
import html
import json
import math
import os
import re
import sys
import urllib.parse
import urllib.request

COLORS = {"green": "#73BF69", "red": "#F2495C", "blue": "#5794F2", "yellow": "#FADE2A", "purple": "#B877D9"}
PALETTE = ["#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#705DA0", "#37872D", "#FADE2A"]
CELL, GAP, STEP = 30, 8, 1
UNITS = {"percent": "%", "s": " s", "reqps": " req/s", "ops": " ops/s"}


def ask(path, **parameters):
    url = f"{os.environ['PROMETHEUS']}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)["data"]["result"]


def query(text):
    return text.replace("$namespace", "serin-system").replace("$rollout_namespace", ".*").replace("$rollout", ".*")


def legend(target, labels):
    form = target.get("legendFormat") or ""
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), form) or ", ".join(labels.values()) or "value"


def shown(value, unit):
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    if unit == "s" and value >= 120:
        return f"{value / 60:.3g} min"
    return f"{value:.3g}{UNITS.get(unit, '')}"


def overridden(panel, name, key):
    for override in panel["fieldConfig"]["overrides"]:
        matcher = override["matcher"]
        fits = matcher["options"] == name if matcher["id"] == "byName" else re.fullmatch(matcher["options"], name)
        for one in override["properties"] if fits else []:
            if one["id"] == key:
                return one["value"]
    return None


def ticks(low, high, is_log):
    if is_log:
        return [10.0**power for power in range(math.floor(low), math.ceil(high) + 1)]
    raw = (high - low) / 4 or 1
    unit = 10 ** math.floor(math.log10(raw))
    step = min((one * unit for one in (1, 2, 5, 10)), key=lambda one: abs(one - raw))
    first = math.ceil(low / step)
    return [one * step for one in range(first, math.floor(high / step) + 1)]


def series_of(panel, began, ended):
    found = []
    for target in panel["targets"]:
        for one in ask("query_range", query=query(target["expr"]), start=began, end=ended, step=STEP):
            points = [(float(at), float(value)) for at, value in one["values"] if value not in ("NaN", "+Inf", "-Inf")]
            if points:
                found.append((legend(target, one["metric"]), points))
    return found


def path_of(points, x, y, is_step):
    out, before = [], None
    for at, value in points:
        if before is None or at - before[0] > 3 * STEP:
            out.append(f"M{x(at):.1f},{y(value):.1f}")
        else:
            out.append(f"L{x(at):.1f},{y(before[1]):.1f}" if is_step else "")
            out.append(f"L{x(at):.1f},{y(value):.1f}")
        before = (at, value)
    return "".join(out)


def clock(at):
    return f"{int(at) // 3600 % 24:02}:{int(at) // 60 % 60:02}:{int(at) % 60:02}"


def timeseries(panel, began, ended, width, height):
    found = series_of(panel, began, ended)
    if not found:
        return None
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults.get("custom", {})
    is_log, unit = "scaleDistribution" in custom, defaults.get("unit")
    values = [value for _, points in found for _, value in points]
    scale = (lambda value: math.log10(max(value, 1e-6))) if is_log else (lambda value: value)
    low = scale(defaults.get("min", min(values)))
    high = max(scale(defaults.get("max", max(values))), low + 1e-9)
    if not is_log and "max" not in defaults:
        high += (high - low) * 0.05 or 1
    rows = min((len(found) + 2) // 3, 4)
    left, bottom = 62, 20 + 16 * rows
    x = lambda at: left + (at - began) / (ended - began) * (width - left - 10)
    y = lambda value: 8 + (1 - (scale(value) - low) / (high - low)) * (height - bottom - 8)
    out = [f'<svg width="{width}" height="{height}">']
    for tick in ticks(low, high, is_log):
        out.append(f'<line class="grid" x1="{left}" x2="{width - 10}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        out.append(f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{shown(tick, unit)}</text>')
    for part in range(5):
        at = began + (ended - began) * part / 4
        anchor = ("start", "middle", "middle", "middle", "end")[part]
        out.append(f'<text x="{x(at):.0f}" y="{height - bottom + 15}" text-anchor="{anchor}">{clock(at)}</text>')
    for number, (name, points) in enumerate(found):
        fixed = overridden(panel, name, "color")
        color = COLORS[fixed["fixedColor"]] if fixed else PALETTE[number % len(PALETTE)]
        dash = 'stroke-dasharray="6 4" stroke-width="1.2"' if overridden(panel, name, "custom.lineStyle") else 'stroke-width="2"'
        drawn = path_of(points, x, y, custom.get("lineInterpolation") == "stepAfter")
        out.append(f'<path d="{drawn}" fill="none" stroke="{color}" {dash}/>')
        if number < rows * 3:
            column, line = number % 3, number // 3
            at = (10 + column * (width - 20) / 3, height - bottom + 32 + 16 * line)
            out.append(f'<rect x="{at[0]:.0f}" y="{at[1] - 6}" width="12" height="3" fill="{color}"/>')
            out.append(f'<text x="{at[0] + 16:.0f}" y="{at[1]}">{html.escape(name[: int(width / 21)])}</text>')
    return "".join(out) + "</svg>"


def timeline(panel, began, ended, width, height):
    found = series_of(panel, began, ended)
    states = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    row = (height - 24) / max(len(found), 1)
    x = lambda at: 130 + (at - began) / (ended - began) * (width - 140)
    out = [f'<svg width="{width}" height="{height}">']
    for number, (name, points) in enumerate(found):
        top = number * row
        out.append(f'<text x="122" y="{top + row / 2 + 4:.0f}" text-anchor="end">{html.escape(name)}</text>')
        begin = 0
        for index in range(1, len(points) + 1):
            if index == len(points) or points[index][1] != points[begin][1] or points[index][0] - points[index - 1][0] > 3 * STEP:
                state = states.get(f"{points[begin][1]:.0f}", {"text": "?", "color": "red"})
                from_, to = x(points[begin][0]), x(points[index - 1][0] + STEP)
                out.append(f'<rect x="{from_:.1f}" y="{top + 3:.1f}" width="{to - from_:.1f}" height="{row - 6:.1f}" fill="{COLORS[state["color"]]}" opacity=".75"/>')
                if to - from_ > 70:
                    out.append(f'<text x="{from_ + 6:.1f}" y="{top + row / 2 + 4:.1f}" style="fill:#111">{state["text"]}</text>')
                begin = index
    return ("".join(out) + "</svg>") if found else None


def stat(panel, ended, height):
    found = [float(one["value"][1]) for target in panel["targets"] for one in ask("query", query=query(target["expr"]), time=ended)]
    if not found:
        return None
    defaults = panel["fieldConfig"]["defaults"]
    color = defaults.get("color", {}).get("fixedColor")
    for step in defaults.get("thresholds", {}).get("steps", []):
        if step["value"] is None or found[0] >= step["value"]:
            color = step["color"]
    return f'<div class="stat" style="color:{COLORS[color]};line-height:{height}px">{found[0]:g}</div>'


def table(panel, ended):
    rows = [one for target in panel["targets"] for one in ask("query", query=query(target["expr"]), time=ended)]
    if not rows:
        return None
    names = panel["transformations"][1]["options"]["renameByName"]
    mapped = lambda title: (overridden(panel, title, "mappings") or [{"options": {}}])[0]["options"]
    out = ["<table><tr>", *(f"<th>{title}</th>" for title in names.values()), "</tr>"]
    for one in rows:
        out.append("<tr>")
        for name, title in names.items():
            text = shown(float(one["value"][1]), overridden(panel, title, "unit")) if name == "Value" else one["metric"].get(name, "")
            color = mapped(title).get(text, {}).get("color")
            style = f' style="color:{COLORS[color]}"' if color else ""
            out.append(f"<td{style}>{html.escape(text)}</td>")
        out.append("</tr>")
    return "".join(out) + "</table>"


STYLE = """body{margin:0;background:#111217;color:#ccccdc;font:12px Inter,Helvetica,Arial,sans-serif}
.panel{position:absolute;background:#181b1f;border:1px solid #25282e;border-radius:2px;box-sizing:border-box;overflow:hidden}
.title{padding:6px 8px;font-weight:500}.row{position:absolute;font-size:15px;padding:6px 2px}.stat{text-align:center;font-size:34px}
svg text{fill:#9fa1ab;font-size:11px}.grid{stroke:#2a2d33}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:5px 8px;border-bottom:1px solid #25282e}th{color:#6e9fff;font-weight:500}"""


def main():
    dashboard = json.load(open(sys.argv[1], encoding="utf-8"))
    began, ended = float(sys.argv[2]), float(sys.argv[3])
    drawn, empty, tall = [], [], 0
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        left, top = place["x"] * 1500 / 24, 8 + place["y"] * (CELL + GAP)
        width, height = place["w"] * 1500 / 24 - GAP, place["h"] * (CELL + GAP) - GAP
        tall = max(tall, top + height)
        at = f"left:{left + GAP / 2:.0f}px;top:{top:.0f}px;width:{width:.0f}px;height:{height:.0f}px"
        if panel["type"] == "row":
            drawn.append(f'<div class="row" style="{at}">▾ {html.escape(panel["title"])}</div>')
            continue
        inner = int(height - 30)
        body = {
            "timeseries": lambda: timeseries(panel, began, ended, int(width - 4), inner),
            "state-timeline": lambda: timeline(panel, began, ended, int(width - 4), inner),
            "stat": lambda: stat(panel, ended, inner),
            "table": lambda: table(panel, ended),
        }[panel["type"]]()
        print(f"{'empty ' if body is None else '      '} {panel['title']}")
        if body is None:
            empty.append(panel["title"])
        drawn.append(f'<div class="panel" style="{at}"><div class="title">{html.escape(panel["title"])}</div>{body or "No data"}</div>')
    with open(sys.argv[4], "w", encoding="utf-8") as page:
        page.write(f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style><body data-height="{tall + 10:.0f}">{"".join(drawn)}')
    if empty:
        sys.exit(f"empty: {', '.join(empty)}")


main()
