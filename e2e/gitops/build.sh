#!/usr/bin/env bash
# Builds the GitOps engines of the stories, kustomize and what stands beside them into a folder, and puts the engines'
# CustomResourceDefinitions there. A cold build takes up to 20 minutes on two cores; a line every 30 seconds says that it goes on.
set -euo pipefail
out=$(mkdir -p "${1:?usage: build.sh OUT_DIR}" && cd "$1" && pwd)
cd "$(dirname "$0")"
started=$SECONDS
(while sleep 30; do echo "building the GitOps engines: $((SECONDS - started)) s"; done) &
ticker=$!
trap 'kill "$ticker" 2>/dev/null || true' EXIT
build() { go build -trimpath -ldflags "-s -w" -o "$out/$1" "$2"; }
(cd flux && build kustomize-controller github.com/fluxcd/kustomize-controller)
(cd argocd && build argocd . && build kustomize sigs.k8s.io/kustomize/kustomize/v5)
build gitops .
folder() { go mod download -json "$1" | python3 -c 'import json,sys; print(json.load(sys.stdin)["Dir"])'; }
version() { (cd "$1" && go list -m -f '{{.Path}}@{{.Version}}' "$2"); }
flux=$(folder "$(version flux github.com/fluxcd/kustomize-controller)")
argo=$(folder "$(version argocd github.com/argoproj/argo-cd/v3)")
# The module that holds the definitions is the one whose API kustomize-controller was built with.
sources=$(folder "$(version flux github.com/fluxcd/source-controller/api | sed 's#/api@#@#')")
mkdir -p "$out/gitops-crds"
install -m 0644 "$flux"/config/crd/bases/*.yaml "$sources"/config/crd/bases/*.yaml "$argo"/manifests/crds/{application,appproject}-crd.yaml "$out/gitops-crds"
echo "built in $((SECONDS - started)) s: $out/kustomize-controller, $out/argocd, $out/kustomize, $out/gitops"
