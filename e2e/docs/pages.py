"""Runs the commands of Markdown pages against the cluster of KUBECONFIG, and compares what they print with what the page says.

An `sh` block holds commands; the `text` block after it holds lines that the last of them prints, in this order. A `text screen`
block holds lines that the open `kubectl serin get --watch` shows by then; the dashboard shows the same phase in a browser.
Hashes, ages and measured numbers may differ, and a line `…` stands for any.
"""

import html
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from cluster import PROMETHEUS, Api, Controller, Traffic
from terminal import Command, until

PATIENCE = 180
VARYING = re.compile(
    r"\b(?=[a-z]*[0-9])[a-z0-9]{10}\b"  # hashes
    r"|\b\d+(?:\.\d+)?(?:ms|[smh])\b"  # ages
    r"|\b[01](?:\.\d+)?\b|[▁▂▃▄▅▆▇█]+(?= )"  # what is measured, and its picture
    r"|key=\S+"
)
CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--timeout=5000", "--dump-dom"]


def blocks(page):
    """The fenced blocks of a page: their words after the fence, and their lines."""
    found, inside = [], None
    with open(page) as file:
        for line in file.read().splitlines():
            if line.startswith("```"):
                if inside is None:
                    inside = (line[3:].strip(), [])
                else:
                    found.append(inside)
                    inside = None
            elif inside is not None:
                inside[1].append(line)
    return found


def commands(lines):
    """Commands, of which each may go over several lines."""
    text = "\n".join(lines).replace("\\\n", "\\\x00")
    return [line.replace("\x00", "\n") for line in text.split("\n") if line.strip() and not line.startswith("#")]


def plain(command):
    """A command in one line, without its comment."""
    return " ".join(command.replace("\\\n", " ").split()).split(" # ")[0]


def normal(line):
    return VARYING.sub("#", " ".join(line.split()))


def missing(wanted, text):
    """The first line that is wanted and does not come after those before it."""
    shown = iter(normal(line) for line in text.splitlines())
    for line in wanted:
        if line.strip() in ("", "…"):
            continue
        if not any(normal(line) in one for one in shown):
            return line
    return None


class Player:
    """Plays pages."""

    def __init__(self, folder, plan, controller):
        self.folder, self.plan, self.controller, self.open, self.count = folder, plan, controller, [], 0
        # What listens, listens on loopback.
        self.environment = dict(os.environ, LC_ALL="C.UTF-8", SERIN_LISTEN="127.0.0.1:0")
        self.out = os.environ.get("SERIN_DOCS_OUT") or os.path.join(folder, "printed")
        os.makedirs(self.out, exist_ok=True)
        # Examples are copied, and speak of deploy/ beside them.
        os.symlink(os.path.abspath("deploy"), os.path.join(folder, "deploy"))

    def prepare(self, number, entry):
        """A namespace of its own, a copy of an example, and what must be there before."""
        namespace = f"docs-{number}"
        if entry["page"].startswith("examples/"):
            entry["folder"] = os.path.join(self.folder, os.path.dirname(entry["page"]))
            shutil.copytree(os.path.dirname(entry["page"]), entry["folder"])
        config = os.path.join(self.folder, f"{namespace}.kubeconfig")
        shutil.copy(os.environ["KUBECONFIG"], config)
        self.environment["KUBECONFIG"] = config
        self.given(["kubectl create namespace " + namespace, f"kubectl config set-context --current --namespace {namespace}"], ".")
        self.given(entry.get("given", []), entry.get("folder", "."))

    def given(self, lines, folder):
        for line in lines:
            end = time.monotonic() + 60
            while True:
                done = subprocess.run(["bash", "-c", line], cwd=folder, env=self.environment, capture_output=True, text=True)
                if done.returncode == 0:
                    break
                if time.monotonic() > end:
                    raise AssertionError(f"{folder}: given: {line}: {done.stdout}{done.stderr}")
                time.sleep(1)

    def play(self, number, entry):
        page = entry["page"]
        print(f"--- {page}", flush=True)
        if entry.get("without") == "controller":
            self.controller.pause(True)
        self.prepare(number, entry)
        last = None
        with open(os.path.join(self.out, page.replace("/", "_") + ".txt"), "w") as printed:
            for words, lines in blocks(page):
                if words == "sh":
                    for command in commands(lines):
                        last = self.run(page, entry, command, printed)
                elif words == "text" and last and entry.get("compared"):
                    self.printed(page, last, lines)
                    last = None
                elif words == "text screen":
                    self.shown(page, lines, printed)
            while self.open:
                self.close(page, self.open.pop())
        self.given(entry.get("after", []), entry.get("folder", "."))
        self.controller.pause(False)

    def run(self, page, entry, command, printed):
        name = plain(command)
        if any(name == one["command"] for one in self.plan["never"] + self.plan["elsewhere"]):
            return None
        self.given(entry.get("before", {}).get(name, []), entry.get("folder", "."))
        self.count += 1
        began = time.monotonic()
        running = Command(command, entry.get("folder", "."), self.environment)
        if name in self.plan["open"]:
            self.open.append((name, running))
            if running.ended(2) is not None:
                raise AssertionError(f"{page}: {name}: ended by itself\n{running.screen.text()}")
            print(f"    {name}  (goes on)", flush=True)
            if not any(words == "text screen" for words, _ in blocks(page)):
                self.close(page, self.open.pop())
            return running
        if name in self.plan["answers"]:
            until(20, lambda: "[y/N]" in running.screen.text())
            running.press(self.plan["answers"][name])
        code = running.ended(PATIENCE if "cargo" not in name else 3600)
        if code is None:
            running.kill()
        printed.write(f"$ {command}\n{running.screen.text()}\n(exit code {code})\n")
        printed.flush()
        print(f"    {name}  {time.monotonic() - began:.1f} s, exit code {code}", flush=True)
        if code != 0:
            raise AssertionError(f"{page}: {name}: exit code {code}\n{running.screen.text()}")
        return running

    def printed(self, page, running, lines):
        until(20, lambda: missing(lines, running.screen.text()) is None)
        lost = missing(lines, running.screen.text())
        if lost is not None:
            raise AssertionError(f"{page}: {plain(running.text)} did not print: {lost}\n{running.screen.text()}")

    def shown(self, page, lines, printed):
        """The live screen, and the browser beside it."""
        watch = next(running for name, running in self.open if "--watch" in name)
        # The screen that came closest is the one to tell of.
        best = (-1, "", "")

        def is_shown():
            nonlocal best
            text = watch.screen.text()
            lost = missing(lines, text)
            best = max(best, (len(lines) if lost is None else lines.index(lost), text, lost or ""))
            return lost is None

        found = until(PATIENCE, is_shown)
        printed.write(f"{best[1]}\n")
        printed.flush()
        if not found:
            raise AssertionError(f"{page}: the screen does not show: {best[2]}\n{best[1]}")
        print(f"      seen in the terminal: {lines[0].strip()}", flush=True)
        phase = re.search(r"in \S+\s+(\w+)", lines[0]).group(1)
        dashboard = next((running for name, running in self.open if "dashboard" in name), None)
        if dashboard is None:
            return
        if not shutil.which("chromium"):
            print("      not seen in a browser: there is no Chromium here", flush=True)
            return
        address = re.search(r"http://127\.0\.0\.1:\d+/\S*", dashboard.screen.text()).group()
        profile = tempfile.mkdtemp(dir=self.folder)
        asked = subprocess.run([*CHROMIUM, f"--user-data-dir={profile}", address], capture_output=True, text=True, timeout=120)
        text = html.unescape(re.sub(r"<[^>]+>", " ", asked.stdout))
        printed.write(f"--- in the browser\n{' '.join(text.split())}\n")
        for word in ("checkout", phase):
            if word not in text:
                raise AssertionError(f"{page}: the browser does not show {word}: {' '.join(text.split())}\n{asked.stderr}")
        print(f"      seen in the browser: checkout {phase}", flush=True)

    def close(self, page, opened):
        name, running = opened
        for _ in range(10):
            running.press(self.plan["open"][name])
            # What still starts may take a key for an answer of the terminal.
            if running.ended(2) is not None:
                return
        running.kill()
        raise AssertionError(f"{page}: {name} does not end by its key\n{running.screen.text()}")


def prometheus(folder, target):
    config = os.path.join(folder, "prometheus.yml")
    with open(config, "w") as file:
        scraped = {"job_name": "mesh", "static_configs": [{"targets": [target]}]}
        json.dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [scraped]}, file)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    series = os.path.join(folder, "series")
    flags = ["--config.file", config, "--storage.tsdb.path", series, f"--web.listen-address={address}"]
    with open(os.path.join(folder, "prometheus.log"), "w") as log:
        return subprocess.Popen([os.environ["PROMETHEUS_BIN"], *flags], stdout=log, stderr=log), f"http://{address}"


def main(folder, words):
    with open("e2e/docs/pages.json") as file:
        plan = json.load(file)
    environment = dict(os.environ)
    api = Api(environment)
    traffic = Traffic(api)
    server, address = prometheus(folder, traffic.address())
    subprocess.run(["kubectl", "create", "namespace", "istio-system"], check=True, stdout=subprocess.DEVNULL)
    controller = Controller(api, environment, folder, address)
    player = Player(folder, plan, controller)
    if shutil.which("kubectl-serin"):
        plan["elsewhere"].append({"command": "cargo install --locked --path . --bin kubectl-serin"})
        print("not run, because KUBECTL_SERIN names what it makes: cargo install", flush=True)
    try:
        chosen = [entry for entry in plan["pages"] if not words or any(word in entry["page"] for word in words)]
        if chosen[:1] != plan["pages"][:1]:
            # The first page installs Serin.
            install = "helm install serin charts/serin -n serin-system --create-namespace --wait --set prometheusUrl=" + PROMETHEUS
            player.given([install, "kubectl create namespace shop"], ".")
        for number, entry in enumerate(chosen):
            player.play(number, entry)
        print(f"{player.count} commands of the pages were run")
    except AssertionError as wrong:
        with open(controller.log.name) as log:
            print(f"FAILED {wrong}\n--- the controller's last words\n{''.join(log.readlines()[-20:])}", flush=True)
        return 1
    finally:
        for _, running in player.open:
            running.kill()
        controller.stop()
        server.terminate()
        server.wait()
        api.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
