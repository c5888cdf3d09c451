package helm

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// combinations are the values that change what is rendered, each in the ways that it can.
var combinations = map[string][]string{
	"defaults":     nil,
	"as in deploy": {"prometheusUrl=http://prometheus.monitoring:9090"},
	"one namespace": {
		"name=serin-shop", "watchNamespace=shop", "crds.install=false", "rbac.userRoles=false", "notifications.promoter=true",
	},
	"the least": {
		"crds.keep=false", "rbac.create=false", "rbac.userRoles=false", "istiod.ask=false", "serviceAccount.create=false",
		"serviceAccount.name=default", "service.enabled=false", "podDisruptionBudget.enabled=false", "replicas=1",
		"topologySpreadConstraints=null",
	},
	"watched": {
		"serviceMonitor.enabled=true", "serviceMonitor.interval=15s", "serviceMonitor.labels.release=prometheus",
		"prometheusRule.enabled=true", "prometheusRule.labels.release=prometheus", "dashboard.enabled=true",
		"dashboard.namespace=shop", "dashboard.annotations.grafana_folder=Delivery", "service.annotations.a=b",
	},
	"traced": {"traces.endpoint=http://collector.monitoring:4317", "traces.protocol=grpc"},
	"walled": {
		"networkPolicy.enabled=true",
		`networkPolicy.from[0].namespaceSelector.matchLabels.kubernetes\.io/metadata\.name=monitoring`,
		"networkPolicy.egress[0].ports[0].port=6443",
	},
	"with tools": {
		"commitFrom.flux=true", "commitFrom.argocd=true", "commitFrom.argocdNamespace=shop", "notifications.promoter=true",
		"notifications.hosts={hooks.example.com,http://alertmanager.monitoring:9093}", "notifications.namespaces={shop,pay}",
		"configSnapshots.configMapNamespaces={shop}", "configSnapshots.secretNamespaces={shop,pay}",
	},
	"shared":        {"sharding.enabled=true", "replicas=3"},
	"with the page": {"page.enabled=true", "page.users={Ada}", "page.groups={oncall,shop}", "jobs.enabled=false"},
	"with the page, one namespace": {
		"name=serin-shop", "watchNamespace=shop", "crds.install=false", "rbac.userRoles=false", "page.enabled=true",
	},
	"guarded": guards,
	"guarded, one namespace": {
		"watchNamespace=shop", "requesters.enabled=true", "gitOnly.enabled=true", "gitOnly.users={flux}", "rbac.userRoles=false",
		"actionRights.enabled=true", "policies.validationActions={Warn,Audit}",
	},
	"without Jobs":          {"jobs.enabled=false"},
	"istio elsewhere":       {"istiod.namespace=pay", "istiod.urls={http://istiod.pay:15014}"},
	"istio's own namespace": {"istiod.namespace=serin-system", "watchNamespace=serin-system"},
	"placed": {
		"image.repository=registry.example/serin", "image.digest=sha256:" + strings.Repeat("0", 64), "image.pullPolicy=Always",
		"imagePullSecrets[0].name=registry", "nodeSelector.pool=system", "tolerations[0].key=system", "tolerations[0].operator=Exists",
		"affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution=null", "priorityClassName=system-cluster-critical",
		"podAnnotations.a=b", "podLabels.team=platform", "serviceAccount.name=progressive", "serviceAccount.annotations.a=b",
		"extraArgs={--route-wait=5,--drain=10}", "extraEnv[0].name=HTTPS_PROXY", "extraEnv[0].value=http://proxy:3128",
		"log=debug", "logFormat=text", "crds.annotations.a=b", "podDisruptionBudget.maxUnavailable=50%",
	},
}

// sets are the arguments that set values.
func sets(values []string) []string {
	var arguments []string
	for _, value := range values {
		arguments = append(arguments, "--set", value)
	}
	return arguments
}

func rendered(t *testing.T, values ...string) string {
	t.Helper()
	return helmed(t, append([]string{"template", "serin", chart, "-n", "serin-system"}, sets(values)...)...)
}

func TestLint(t *testing.T) {
	for name, values := range combinations {
		if out, err := helm(t, append([]string{"lint", "--strict", chart}, sets(values)...)...); err != nil {
			t.Errorf("%s: %s", name, out)
		}
	}
}

func TestMistakesAreNamed(t *testing.T) {
	for value, want := range map[string]string{
		"promtheusUrl=http://prometheus:9090":               "additional properties 'promtheusUrl' not allowed",
		"image.repo=registry.example/serin":                 "at '/image': additional properties 'repo' not allowed",
		"prometheusUrl=prometheus:9090":                     "at '/prometheusUrl': 'prometheus:9090' does not match pattern",
		"replicas=two":                                      "at '/replicas': got string, want integer",
		"logFormat=xml":                                     "at '/logFormat': value must be one of 'json', 'text'",
		"image.digest=latest":                               "at '/image/digest': 'latest' does not match pattern",
		"serviceAccount.create=false":                       "serviceAccount.name: name the account that is there",
		"serviceMonitor.enabled=true,service.enabled=false": "serviceMonitor.enabled: a ServiceMonitor needs the Service",
		"gitOnly.enabled=true":                              "gitOnly.users: name who applies Git",
		"fourEyes.enabled=true":                             "fourEyes.enabled: who may change a Rollout may write an approval into it",
		"fourEyes.actions={undo}":                           "at '/fourEyes/actions/0': value must be one of",
		"policies.validationActions={Deny,Warn}":            "at '/policies/validationActions'",
		"gitOnly.accounts={flux}":                           "at '/gitOnly': additional properties 'accounts' not allowed",
	} {
		out, err := helm(t, "template", "serin", chart, "--set", value)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--set %s: %v\n%.300s", value, err, out)
		}
	}
}

// TestThePageShowsWhatAMistakeSays compares docs/install.md with what Helm prints.
func TestThePageShowsWhatAMistakeSays(t *testing.T) {
	page, err := os.ReadFile("../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```console\n$ helm install serin charts/serin --set ")
	block, _, _ = strings.Cut(block, "```")
	value, printed, _ := strings.Cut(block, "\n")
	_, err = helm(t, "install", "serin", chart, "--set", value)
	if err == nil || "Error: "+strings.TrimSpace(err.Error()) != strings.TrimSpace(printed) {
		t.Errorf("the page shows\n%s\nand Helm says\n%v", printed, err)
	}
}

// objects are the documents of a text, by kind, namespace and name, without what Helm adds to their metadata.
func objects(t *testing.T, text string) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	for document := range strings.SplitSeq("\n"+text, "\n---") {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatalf("%s:\n%s", err, document)
		}
		if object == nil {
			continue
		}
		metadata := object["metadata"].(map[string]any)
		for _, of := range []string{"labels", "annotations"} {
			kept, _ := metadata[of].(map[string]any)
			maps.DeleteFunc(kept, func(key string, _ any) bool {
				return strings.HasPrefix(key, "app.kubernetes.io/") || strings.HasPrefix(key, "helm.sh/")
			})
			if len(kept) == 0 {
				delete(metadata, of)
			}
		}
		key := fmt.Sprintf("%s %v/%v", object["kind"], metadata["namespace"], metadata["name"])
		if _, isThere := found[key]; isThere {
			t.Errorf("%s is there twice", key)
		}
		found[key] = object
	}
	return found
}

// sortedRules has the rules of roles in an order of their own: which rule comes first says nothing.
func sortedRules(object map[string]any) {
	if rules, ok := object["rules"].([]any); ok {
		slices.SortFunc(rules, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
}

// difference is what `diff` says of two objects.
func difference(t *testing.T, chart, deploy map[string]any) string {
	t.Helper()
	dir := t.TempDir()
	for name, object := range map[string]map[string]any{"chart": chart, "deploy": deploy} {
		text, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command("diff", "-u", "deploy", "chart")
	command.Dir = dir
	out, _ := command.Output()
	return string(out)
}

// TestDeployIsTheChart compares what kustomize applies with what the chart renders by its default values.
func TestDeployIsTheChart(t *testing.T) {
	kustomized := kubectled(t, "", "kustomize", "../../deploy")
	deploy, chart := objects(t, kustomized), objects(t, rendered(t, combinations["as in deploy"]...))
	delete(deploy, "Namespace <nil>/serin-system")
	for key := range deploy {
		if _, isThere := chart[key]; !isThere {
			t.Errorf("deploy/ has %s, and the chart has not", key)
		}
	}
	for key, object := range chart {
		other, isThere := deploy[key]
		if !isThere {
			t.Errorf("the chart has %s, and deploy/ has not", key)
			continue
		}
		sortedRules(object)
		sortedRules(other)
		if !reflect.DeepEqual(object, other) {
			t.Errorf("%s differs:\n%s", key, difference(t, object, other))
		}
	}
}

// TestOptionsAreTheFilesOfDeploy compares the rules that values add with the files of deploy/ that say the same.
func TestOptionsAreTheFilesOfDeploy(t *testing.T) {
	chart := objects(t, rendered(t, "commitFrom.flux=true", "commitFrom.argocd=true", "notifications.promoter=true", "notifications.namespaces={shop}", "sharding.enabled=true", "page.enabled=true"))
	for _, file := range []string{"sharding.yaml", "dashboard/deployment.yaml", "dashboard/rbac.yaml", "commit/flux.yaml", "commit/argocd.yaml", "notifications/promoter.yaml", "notifications/secret-role.yaml"} {
		text, err := os.ReadFile(filepath.Join("../../deploy", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range objects(t, string(text)) {
			metadata := object["metadata"].(map[string]any)
			if strings.HasSuffix(file, "secret-role.yaml") {
				metadata["namespace"] = "shop"
			}
			key := fmt.Sprintf("%s %v/%v", object["kind"], metadata["namespace"], metadata["name"])
			sortedRules(chart[key])
			sortedRules(object)
			if !reflect.DeepEqual(chart[key], object) {
				t.Errorf("%s of deploy/%s differs:\n%s", key, file, difference(t, chart[key], object))
			}
		}
	}
}

// TestNoSecretsOfTheCluster looks through every combination for a right on Secrets that a ClusterRoleBinding or a wildcard gives.
func TestNoSecretsOfTheCluster(t *testing.T) {
	for name, values := range combinations {
		all := objects(t, rendered(t, values...))
		bound := map[string]bool{}
		for _, object := range all {
			if object["kind"] == "ClusterRoleBinding" {
				bound[object["roleRef"].(map[string]any)["name"].(string)] = true
			}
		}
		for key, object := range all {
			rules, _ := object["rules"].([]any)
			text := fmt.Sprint(rules)
			if strings.Contains(text, "*") {
				t.Errorf("%s: %s has a wildcard", name, key)
			}
			isBound := object["kind"] == "ClusterRole" && bound[object["metadata"].(map[string]any)["name"].(string)]
			if isBound && strings.Contains(text, "secrets") {
				t.Errorf("%s: %s gives Secrets of the whole cluster", name, key)
			}
		}
	}
}

// TestEveryCombinationIsAccepted has each applied by an API server that then forgets it.
func TestEveryCombinationIsAccepted(t *testing.T) {
	namespaces(t, "serin-system", "istio-system", "shop", "pay", "argocd")
	kinds := os.Getenv("E2E_OPERATOR_CRDS")
	for _, kind := range []string{"servicemonitors", "prometheusrules"} {
		kubectled(t, "", "apply", "--server-side", "-f", filepath.Join(kinds, "monitoring.coreos.com_"+kind+".yaml"))
		kubectled(t, "", "wait", "--for=condition=Established", "crd/"+kind+".monitoring.coreos.com")
	}
	for name, values := range combinations {
		out, err := kubectl(t, rendered(t, values...), "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
		if err != nil || strings.Contains(out, "Warning") {
			t.Errorf("%s: %s", name, out)
		}
		wanted := len(objects(t, rendered(t, values...)))
		if applied := strings.Count(out, "serverside-applied"); applied != wanted {
			t.Errorf("%s: %d of %d objects were applied:\n%s", name, applied, wanted, out)
		}
	}
}

// TestArgumentsAreThoseOfTheBinary has the binary read what each combination gives it.
func TestArgumentsAreThoseOfTheBinary(t *testing.T) {
	for name, values := range combinations {
		deployment := objects(t, rendered(t, values...))
		for key, object := range deployment {
			if object["kind"] != "Deployment" {
				continue
			}
			pod := object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
			container := pod["containers"].([]any)[0].(map[string]any)
			var arguments []string
			for _, argument := range container["args"].([]any) {
				arguments = append(arguments, argument.(string))
			}
			// Where no cluster is, it ends once it has understood what it was told.
			command := exec.Command(os.Getenv("SERIN_BIN"), arguments...)
			command.Env = []string{"KUBECONFIG=/dev/null"}
			out, err := command.CombinedOutput()
			if err == nil || !bytes.Contains(out, []byte("connect to Kubernetes")) {
				t.Errorf("%s: %s with %v says %s", name, key, arguments, out)
			}
		}
	}
}

// TestAPackageIsWhole renders the same from the archive, where no link leads out of the chart.
func TestAPackageIsWhole(t *testing.T) {
	dir := t.TempDir()
	helmed(t, "package", chart, "-d", dir)
	archives, err := filepath.Glob(filepath.Join(dir, "serin-*.tgz"))
	if err != nil || len(archives) != 1 {
		t.Fatal(archives, err)
	}
	if out := helmed(t, "template", "serin", archives[0], "-n", "serin-system"); out != rendered(t) {
		t.Error("the archive renders something else")
	}
	without := filepath.Join(dir, "without")
	copyChart(t, without)
	if err := os.RemoveAll(filepath.Join(without, "files", "crds")); err != nil {
		t.Fatal(err)
	}
	if _, err := helm(t, "template", "serin", without); err == nil || !strings.Contains(err.Error(), "files/crds has no definitions") {
		t.Errorf("a chart without definitions: %v", err)
	}
	helmed(t, "template", "serin", without, "--set", "crds.install=false")
}

// TestAlerts has Prometheus' own tool check and try the alerts that the chart renders.
func TestAlerts(t *testing.T) {
	dir := t.TempDir()
	for key, object := range objects(t, rendered(t, "prometheusRule.enabled=true")) {
		if !strings.HasPrefix(key, "PrometheusRule ") {
			continue
		}
		rules, err := yaml.Marshal(object["spec"])
		if err != nil {
			t.Fatal(err)
		}
		tests, err := os.ReadFile("testdata/alerts_test.yaml")
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string][]byte{"alerts.yaml": rules, "alerts_test.yaml": tests} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, arguments := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		command := exec.Command(os.Getenv("E2E_PROMTOOL"), arguments...)
		command.Dir = dir
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %s", arguments, out)
		}
	}
}
