#!/usr/bin/env bash
# Writes go.mod: k8s.io/kubernetes requires its staging modules at v0.0.0 and replaces them by local paths, which do not
# reach importers. So upstream's requirements are taken over, and every staging module is set to its released version.
set -euo pipefail
cd "$(dirname "$0")"
kubernetes=v1.36.3
staging=v0.36.3
rm -f go.mod go.sum
go mod init serin.dev/e2e/testbed
upstream=$(go mod download -json "k8s.io/kubernetes@$kubernetes" | python3 -c 'import json,sys; print(json.load(sys.stdin)["Dir"])')
cp "$upstream/go.sum" go.sum
chmod u+w go.sum
go mod edit -json "$upstream/go.mod" | python3 -c '
import json, sys
mod, staging = json.load(sys.stdin), sys.argv[1]
local = [r["Old"]["Path"] for r in mod["Replace"] if r["New"]["Path"].startswith("./")]
for r in mod["Require"]:
    print("-require=%s@%s" % (r["Path"], staging if r["Path"] in local else r["Version"]))
for path in local:
    if path != "k8s.io/sample-cli-plugin":
        print("-replace=%s=%s@%s" % (path, path, staging))
' "$staging" | xargs go mod edit -go="$(go mod edit -json "$upstream/go.mod" | python3 -c 'import json,sys; print(json.load(sys.stdin)["Go"])')"
go mod edit -require="k8s.io/kubernetes@$kubernetes" -require=istio.io/api@v1.31.1
GOFLAGS=-mod=mod go mod tidy
