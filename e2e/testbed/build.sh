#!/usr/bin/env bash
# Builds the testbed and kubectl into a folder, and puts the CustomResourceDefinitions of Istio and of the Gateway API beside them.
# A cold build takes 4 to 18 minutes on two cores; a line every 30 seconds says that it goes on.
set -euo pipefail
out=$(mkdir -p "${1:?usage: build.sh OUT_DIR}" && cd "$1" && pwd)
cd "$(dirname "$0")"
version=v1.36.3
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags="${flags:-} -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=36"
  flags="$flags -X $package.gitTreeState=clean -X $package.gitCommit=0000000 -X $package.buildDate=1970-01-01T00:00:00Z"
done
started=$SECONDS
(while sleep 30; do echo "building the testbed: $((SECONDS - started)) s"; done) &
ticker=$!
trap 'kill "$ticker" 2>/dev/null || true' EXIT
go build -ldflags "-s -w $flags" -o "$out/testbed" .
if [ "${2:-}" != "--no-kubectl" ]; then
  go build -ldflags "-s -w $flags" -o "$out/kubectl" ./cmd/kubectl
fi
folder() { go mod download -json "$1" | python3 -c 'import json,sys; print(json.load(sys.stdin)["Dir"])'; }
install -m 0644 "$(folder istio.io/api@v1.31.1)/kubernetes/customresourcedefinitions.gen.yaml" "$out/istio-crds.yaml"
# That of the istiod of e2e/mesh, in its standard channel.
gateway=$(folder sigs.k8s.io/gateway-api@v1.6.0)
mkdir -p "$out/gateway-crds"
install -m 0644 "$gateway"/config/crd/standard/gateway.networking.k8s.io_*s.yaml "$out/gateway-crds"
echo "built in $((SECONDS - started)) s: $out/testbed"
