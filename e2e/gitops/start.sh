# Sourced by e2e/run, once the cluster is there: starts Flux and Argo CD on it, and another cluster that Argo CD applies to, too.
# Exports E2E_REPOSITORIES, the folder that has a Git repository for each namespace, E2E_WRITES, where each write of an engine is
# a line of JSON, E2E_KUSTOMIZE, and of the other cluster E2E_OTHER_KUBECONFIG and E2E_OTHER_ENGINES, its address for engines.
export E2E_REPOSITORIES=$dir/repositories E2E_WRITES=$dir/writes.jsonl E2E_KUSTOMIZE=$cache/bin/kustomize
mkdir -p "$E2E_REPOSITORIES" "$dir/engines"
: >"$E2E_WRITES"
"$E2E_KUBECTL" apply --server-side -f "$cache/bin/gitops-crds" >/dev/null
"$E2E_KUBECTL" wait --for=condition=Established --timeout=30s -f "$cache/bin/gitops-crds" >/dev/null
"$E2E_KUBECTL" apply --server-side -f e2e/gitops/argocd.yaml -f deploy/commit >/dev/null
"$E2E_KUBECTL" config view --raw -o json >"$dir/engines/admin.json"
engines=127.0.0.1:$(free_port) artifacts=127.0.0.1:$(free_port)
# The engines reach the API server only through the recorder, which has the credentials.
cat >"$dir/engines/kubeconfig" <<JSON
{"apiVersion": "v1", "kind": "Config", "current-context": "e2e",
 "clusters": [{"name": "e2e", "cluster": {"server": "http://$engines"}}], "users": [{"name": "e2e", "user": {}}],
 "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}]}
JSON

# Starts a program that ends when this script does, however that ends; its output is NAME.log.
start_engine() {
  local name=$1
  shift
  setpriv --pdeathsig KILL "$@" >"$dir/engines/$name.log" 2>&1 &
  pids+=($!)
}
KUBECONFIG=$dir/engines/admin.json start_engine gitops "$cache/bin/gitops" -engines "$engines" -artifacts "$artifacts" \
  -repositories "$E2E_REPOSITORIES" -writes "$E2E_WRITES"
for _ in $(seq 100); do curl -sf "http://$engines/readyz" >/dev/null && break; sleep 0.1; done
KUBECONFIG=$dir/engines/kubeconfig RUNTIME_NAMESPACE=default start_engine flux "$cache/bin/kustomize-controller" \
  --watch-all-namespaces --metrics-addr=0 --health-addr="127.0.0.1:$(free_port)" --log-level=info --concurrent=8 \
  --kube-api-qps=500 --kube-api-burst=1000
PATH=$cache/bin:$PATH KUBECONFIG=$dir/engines/kubeconfig ARGOCD_GPG_ENABLED=false ARGOCD_FAKE_IN_CLUSTER=true \
  ARGOCD_ASK_PASS_SOCK=$dir/engines/ask-pass.sock ARGOCD_K8S_CLIENT_QPS=500 TMPDIR=$dir/engines \
  start_engine argocd "$cache/bin/argocd" -redis "127.0.0.1:$(free_port)" -repository "$(free_port)" \
  -repository-health "$(free_port)" -metrics "127.0.0.1:$(free_port)"

# The other cluster. Argo CD knows it by a Secret, and reaches it by a recorder of its own.
start_cluster other
export E2E_OTHER_KUBECONFIG=$dir/other/admin.kubeconfig
other=127.0.0.1:$(free_port)
export E2E_OTHER_ENGINES=http://$other
KUBECONFIG=$E2E_OTHER_KUBECONFIG "$E2E_KUBECTL" config view --raw -o json >"$dir/engines/other.json"
KUBECONFIG=$dir/engines/other.json start_engine gitops-other "$cache/bin/gitops" -engines "$other" -writes "$E2E_WRITES"
"$E2E_KUBECTL" apply --server-side -f - >/dev/null <<YAML
apiVersion: v1
kind: Secret
metadata: {name: other, namespace: argocd, labels: {argocd.argoproj.io/secret-type: cluster}}
stringData: {name: other, server: "$E2E_OTHER_ENGINES", config: "{}"}
YAML
