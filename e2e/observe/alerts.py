"""The alerts in a real Prometheus.

    alerts.py rules FILE      prints the rules with waits of two seconds in place of minutes
    alerts.py firing NAME…    fails unless these alerts fire, and no other; NAME? may fire
    alerts.py has NAME…       fails unless these fire

PROMETHEUS is the address.
"""
import json
import os
import re
import sys
import urllib.request


def firing():
    with urllib.request.urlopen(os.environ["PROMETHEUS"] + "/api/v1/alerts", timeout=5) as answer:
        alerts = json.load(answer)["data"]["alerts"]
    return {alert["labels"]["alertname"]: alert["annotations"]["summary"] for alert in alerts if alert["state"] == "firing"}


def main():
    what, names = sys.argv[1], sys.argv[2:]
    if what == "rules":
        with open(names[0], encoding="utf-8") as rules:
            print(re.sub(r"^(\s+)for: .*$", r"\1for: 2s", rules.read(), flags=re.MULTILINE))
        return
    told = firing()
    if what == "has":
        sys.exit(0 if set(names) <= set(told) else 1)
    wanted = {name.rstrip("?") for name in names if not name.endswith("?")}
    allowed = {name.rstrip("?") for name in names}
    for name in sorted(told):
        print(f"         alert {name}: {told[name]}")
    if not told:
        print("         no alert")
    if not (wanted <= set(told) <= allowed):
        sys.exit(f"wanted {sorted(wanted)}, not {sorted(told)}")


main()
