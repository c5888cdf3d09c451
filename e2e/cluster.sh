# Sourced by e2e/run and e2e/bench: builds what they need, and starts the cluster unless KUBECONFIG names one.
# Sets dir, cache and target; exports KUBECONFIG, SERIN_BIN and E2E_DIR; everything started ends with the caller.
# With SERIN_BIN set the stories are told with that controller, and none is built.
cache=${SERIN_E2E_CACHE:-$HOME/.cache/serin-e2e}
target=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR=$target
mkdir -p "$cache"
dir=$(mktemp -d)
pids=()
stop() {
  for pid in "${pids[@]:-}"; do [ -n "$pid" ] && kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]:-}"; do [ -n "$pid" ] && wait "$pid" 2>/dev/null || true; done
  rm -rf "$dir"
}
trap stop EXIT

build() {
  if [ -z "${KUBECONFIG:-}" ]; then
    e2e/testbed/build.sh "$cache/bin"
  fi
  if [ -z "${SERIN_BIN:-}" ]; then cargo build --release --bin serin; fi
  cargo test --no-run --features e2e --test "$1"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Starts an API server with the controllers of Kubernetes; its files are in the folder dir/NAME. With has_audit set,
# what Serin asks is in dir/NAME.audit; with lacks_definitions set, though empty, no definitions of Serin are there.
start_cluster() {
  "$cache/bin/testbed" --dir "$dir/$1" --crds "$cache/bin/istio-crds.yaml" --crds "$cache/bin/gateway-crds" \
    ${lacks_definitions---crds crds} ${has_audit:+--audit "$dir/$1.audit"} --parent $$ 2>"$dir/$1.err" &
  local testbed=$!
  pids+=("$testbed")
  for _ in $(seq 1200); do
    [ -f "$dir/$1/ready" ] && break
    kill -0 "$testbed" || { echo "the testbed ended"; cat "$dir/$1.err"; exit 1; }
    sleep 0.1
  done
}

start_testbed() {
  if [ -z "${KUBECONFIG:-}" ]; then
    start_cluster testbed
    export KUBECONFIG=$dir/testbed/admin.kubeconfig
    if [ -n "${has_audit:-}" ]; then export E2E_AUDIT=$dir/testbed.audit; fi
  fi
  export E2E_KUBECTL=${E2E_KUBECTL:-$(command -v kubectl || echo "$cache/bin/kubectl")}
  export SERIN_BIN=${SERIN_BIN:-$target/release/serin} E2E_DIR=$dir
}
