"""What a cluster has and the testbed has not: requests with their metrics, and pods that run Serin."""

import http.server
import json
import os
import re
import subprocess
import threading
import time
import urllib.request

# Requests a second, and which part of them a pod answers by 500 that was told to make errors.
LOAD, ERRORS = 20.0, 0.11
PROMETHEUS = "http://prometheus.istio-system:9090"


class Api:
    """The API server, read as the administrator."""

    def __init__(self, environment):
        command = ["kubectl", "proxy", "--port=0"]
        self.proxy = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        self.address = re.search(r"127\.0\.0\.1:\d+", self.proxy.stdout.readline()).group()

    def get(self, path):
        """An object, or none."""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            return None

    def stop(self):
        self.proxy.terminate()
        self.proxy.wait()


def said(environment, *arguments):
    """What kubectl prints."""
    return subprocess.run(["kubectl", *arguments], env=environment, capture_output=True, text=True, check=True).stdout


def is_ready(pod):
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


class Traffic:
    """Requests to the Service `checkout` of `shop` as its route deals them out, counted as Istio's proxies count."""

    def __init__(self, api):
        self.api, self.counts, self.lock = api, {}, threading.Lock()
        owner = self

        class Metrics(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                text = owner.told().encode()
                self.send_response(200)
                self.end_headers()
                try:
                    self.wfile.write(text)
                except OSError:
                    pass  # Prometheus has gone.

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        threading.Thread(target=self.flow, daemon=True).start()

    def address(self):
        return f"127.0.0.1:{self.server.server_port}"

    def told(self):
        with self.lock:
            return "".join(
                'istio_requests_total{reporter="source",destination_workload_namespace="shop",'
                f'destination_canonical_revision="{revision}",response_code="{code}",request_protocol="http"}} {count}\n'
                for (revision, code), count in sorted(self.counts.items())
            )

    def flow(self):
        last = time.monotonic()
        while True:
            time.sleep(1)
            now = time.monotonic()
            for pods, weight in self.targets():
                for pod in pods:
                    self.count(pod, LOAD * weight / len(pods) * (now - last))
            last = now

    def count(self, pod, requests):
        revision = pod["metadata"]["labels"].get("service.istio.io/canonical-revision")
        words = [word for one in pod["spec"]["containers"] for word in one.get("command", []) + one.get("args", [])]
        errors = ERRORS if "--random-error" in words else 0.0
        with self.lock:
            for code, part in (("200", 1 - errors), ("500", errors)):
                self.counts[revision, code] = self.counts.get((revision, code), 0.0) + requests * part

    def targets(self):
        """Pods with the part of the requests that goes to them all."""
        of = "/apis/networking.istio.io/v1/namespaces/shop"
        route = self.api.get(f"{of}/virtualservices/checkout-serin")
        rule = self.api.get(f"{of}/destinationrules/checkout-serin")
        listed = self.api.get("/api/v1/namespaces/shop/pods?labelSelector=app%3Dcheckout")
        if not route or not listed:
            return
        subsets = {one["name"]: one["labels"] for one in (rule or {}).get("spec", {}).get("subsets", [])}
        for one in route["spec"]["http"][0]["route"]:
            labels = subsets.get(one["destination"].get("subset"), {})
            ready = [pod for pod in listed["items"] if is_ready(pod)]
            pods = [pod for pod in ready if labels.items() <= pod["metadata"]["labels"].items()]
            if pods:
                yield pods, one.get("weight", 100) / 100


class Controller:
    """Serin in the place of the pods of its Deployment: with its arguments, its environment and a token of its account."""

    def __init__(self, api, environment, folder, prometheus):
        self.api, self.environment, self.folder, self.prometheus = api, environment, folder, prometheus
        self.process, self.wanted, self.stopped, self.paused = None, None, False, False
        self.log = open(os.path.join(folder, "serin.log"), "w")
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopped:
            deployment = self.api.get("/apis/apps/v1/namespaces/serin-system/deployments/serin")
            wanted = deployment["spec"]["template"]["spec"] if deployment and not self.paused else None
            if wanted != self.wanted:
                self.end()
                self.wanted = wanted if wanted and self.start(wanted) else None
            time.sleep(0.5)
        self.end()

    def start(self, pod):
        """Whether it could be started; its account may be gone already, or not be there yet."""
        try:
            return self.started(pod)
        except subprocess.CalledProcessError:
            return False

    def started(self, pod):
        account = pod["serviceAccountName"]
        path = os.path.join(self.folder, "controller.kubeconfig")
        own = dict(self.environment, KUBECONFIG=path, POD_NAME="serin", POD_NAMESPACE="serin-system")
        with open(path, "w") as file:
            file.write(said(self.environment, "config", "view", "--raw", "--minify", "--flatten"))
        token = said(self.environment, "create", "token", account, "-n", "serin-system").strip()
        user = said(own, "config", "view", "-o", "jsonpath={.users[0].name}")
        # A token of its own, and nobody else's rights.
        said(own, "config", "unset", f"users.{user}")
        said(own, "config", "set-credentials", user, f"--token={token}")
        container = pod["containers"][0]
        for one in container.get("env", []):
            if "value" in one:
                own[one["name"]] = one["value"].replace(PROMETHEUS, self.prometheus)
        arguments = [one.replace(PROMETHEUS, self.prometheus) for one in container.get("args", ["run"])]
        command = [self.environment["SERIN_BIN"], *arguments, "--listen=127.0.0.1:0"]
        self.process = subprocess.Popen(command, env=own, stderr=self.log, stdout=self.log)
        return True

    def pause(self, is_paused):
        """Stops it for a while, or lets it go on."""
        self.paused = is_paused
        end = time.monotonic() + 30
        while is_paused and self.process and time.monotonic() < end:
            time.sleep(0.1)

    def end(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def stop(self):
        self.stopped = True
        self.thread.join()
        self.log.close()
