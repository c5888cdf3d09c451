"""Counts requests as the pods of canaries would: for each Rollout of a namespace, by revision and weight, at a port of loopback.

    traffic.py NAMESPACE PORT RATES

RATES is a file of JSON, read each second: images, and the fraction of their requests that fails. Images that it does not have fail none.
KUBECTL names the command.
"""
import http.server
import json
import os
import random
import subprocess
import sys
import threading
import time

PER_SECOND = 200


def rollouts(namespace):
    asked = [os.environ["KUBECTL"], "get", "rollouts", "-n", namespace, "-o", "json"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return json.loads(done.stdout)["items"] if done.returncode == 0 else []


def count(counts, items, rates, seconds):
    for item in items:
        status = item.get("status", {})
        for side in (status.get("stable"), status.get("canary")):
            if not side or not side.get("observedWeight") or not side.get("ready"):
                continue
            pods = side["ready"]
            for number in range(PER_SECOND * side["observedWeight"] * seconds // 100 // pods):
                for pod in range(pods):
                    code = "500" if random.random() < rates.get(side["image"], 0.0) else "200"
                    key = (item["metadata"]["name"], side["hash"], f"{side['hash']}-{pod}", code)
                    counts[key] = counts.get(key, 0) + 1


def main():
    namespace, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    counts = {}

    class Scrape(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            lines = ["# TYPE requests_total counter"]
            for (rollout, revision, pod, code), value in sorted(counts.items()):
                lines.append(f'requests_total{{rollout="{rollout}",revision="{revision}",pod="{pod}",code="{code}"}} {value}')
            body = ("\n".join(lines) + "\n").encode()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            # A channel's webhook.
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(400 if self.path == "/refused" else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Scrape)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        began = time.monotonic()
        with open(path, encoding="utf-8") as rates:
            count(counts, rollouts(namespace), json.load(rates), 1)
        time.sleep(max(0.0, 1 - (time.monotonic() - began)))


main()
