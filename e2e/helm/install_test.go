package helm

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const system = "serin-system"

// may says whether somebody may do something.
func may(t *testing.T, who string, what ...string) bool {
	t.Helper()
	out, err := kubectl(t, "", append([]string{"auth", "can-i", "-q", "--as", who}, what...)...)
	if err != nil && out != "" && !strings.HasPrefix(out, "Warning: resource") {
		t.Fatalf("kubectl auth can-i %v: %s", what, out)
	}
	return err == nil
}

// TestInstallation is one installation from its beginning to its end.
func TestInstallation(t *testing.T) {
	namespaces(t, "istio-system")
	helmed(t, "install", "serin", chart, "-n", system, "--create-namespace", "--wait", "--timeout", patience.String())
	// An API server takes a Secret of 1 MiB at most, and Helm keeps the chart and what it rendered in one.
	release := kubectled(t, "", "get", "secret", "sh.helm.release.v1.serin.v1", "-n", system, "-o", "jsonpath={.data.release}")
	if len(release) > 512*1024 {
		t.Errorf("Helm keeps the release in %d bytes", len(release))
	}
	controller := startController(t, system, "serin")

	t.Run("a canary", func(t *testing.T) { rollout{t, "shop"}.promoted() })
	t.Run("what Helm waits for", whatHelmWaitsFor)
	t.Run("rights", rights)
	t.Run("an upgrade", upgraded)
	controller.stop(t)
	t.Run("uninstalled", uninstalled)
	t.Run("taken over from kustomize", takenOver)
}

func whatHelmWaitsFor(t *testing.T) {
	r := rollout{t, "shop"}
	version := r.field(".metadata.resourceVersion")
	if err := r.release("--set", "image=registry.example/checkout:2"); err != nil {
		t.Fatal(err)
	}
	r.is(".metadata.resourceVersion", version)

	began := time.Now()
	if err := r.release("--set", "image=registry.example/checkout:3", "--set", "isReady=false"); err == nil {
		t.Error("Helm takes an aborted canary for a success")
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("Helm waits %s for an aborted canary", took)
	}
	r.is(".status.phase", "Degraded")
	r.is(".status.stable.image", "registry.example/checkout:2")
}

// rights are those that the page names, for Serin and for people.
func rights(t *testing.T) {
	account := "system:serviceaccount:" + system + ":serin"
	kubectled(t, "", "create", "rolebinding", "ada", "-n", "shop", "--clusterrole=view", "--user=ada")
	kubectled(t, "", "create", "rolebinding", "grace", "-n", "shop", "--clusterrole=edit", "--user=grace")
	for _, one := range []struct {
		who  string
		what string
		want bool
	}{
		{account, "get secrets -n " + system, true},
		{account, "list secrets -n " + system, false},
		{account, "get secrets -A", false},
		{account, "get secrets -n shop", false},
		{account, "get configmaps -n shop", false},
		{account, "create pods -n shop", false},
		{account, "create serviceaccounts/serin-proxies --subresource=token -n istio-system", true},
		{account, "create serviceaccounts/default --subresource=token -n istio-system", false},
		{account, "update rollouts -n shop", false},
		{"ada", "get rollouts -n shop", true},
		{"ada", "create rolloutactions -n shop", false},
		{"ada", "get rollouts -n default", false},
		{"grace", "patch rollouts -n shop", true},
		{"grace", "create rolloutactions -n shop", true},
		{"grace", "update rolloutactions -n shop", false},
		{"grace", "patch rollouts --subresource=scale -n shop", true},
		{"grace", "patch rollouts --subresource=status -n shop", false},
		{"grace", "update notificationchannels --subresource=status -n shop", false},
		{"grace", "create metricproviders", false},
	} {
		if found := may(t, one.who, strings.Fields(one.what)...); found != one.want {
			t.Errorf("%s may %s: %t", one.who, one.what, found)
		}
	}
}

// upgraded is the chart with a definition that has changed since.
func upgraded(t *testing.T) {
	column := func() string {
		return kubectled(t, "", "get", "crd", "rollouts.serin.dev", "-o", `jsonpath={.spec.versions[0].additionalPrinterColumns[?(@.name=="Told")].jsonPath}`)
	}
	if found := column(); found != "" {
		t.Fatal("the definition has the column already")
	}
	newer := filepath.Join(t.TempDir(), "serin")
	copyChart(t, newer)
	path := filepath.Join(newer, "files", "crds", "rollouts.serin.dev.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "  - additionalPrinterColumns:\n", "  - additionalPrinterColumns:\n    - {name: Told, type: string, jsonPath: .status.message}\n", 1)
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	r := rollout{t, "shop"}
	before := r.field(".metadata.uid")
	helmed(t, "upgrade", "serin", newer, "-n", system, "--reset-then-reuse-values", "--set", "log=debug", "--wait", "--timeout", patience.String())
	if found := column(); found != ".status.message" {
		t.Errorf("the definition was not upgraded: %q", found)
	}
	r.is(".metadata.uid", before)
	if err := r.release("--set", "image=registry.example/checkout:4"); err != nil {
		t.Fatal(err)
	}
	r.is(".status.stable.image", "registry.example/checkout:4")
}

// uninstalled is what stays, and that it is found again.
func uninstalled(t *testing.T) {
	r := rollout{t, "shop"}
	before := r.field(".metadata.resourceVersion")
	helmed(t, "uninstall", "serin", "-n", system, "--wait", "--timeout", patience.String())
	for _, what := range []string{"deployment", "service", "serviceaccount/serin", "role", "rolebinding", "poddisruptionbudget"} {
		if out, err := kubectl(t, "", "get", what, "-n", system, "-o", "name"); err == nil && out != "" {
			t.Errorf("%s is still there", out)
		}
	}
	if out := kubectled(t, "", "get", "clusterrole,clusterrolebinding", "-A", "-l", "app.kubernetes.io/name=serin", "-o", "name"); out != "" {
		t.Errorf("%s is still there", out)
	}
	if out := kubectled(t, "", "get", "crd", "-l", "app.kubernetes.io/name=serin", "-o", "name"); strings.Count(out, "\n") != 5 {
		t.Errorf("of the definitions these are there:\n%s", out)
	}
	r.is(".metadata.resourceVersion", before)
	r.is(".status.stable.image", "registry.example/checkout:4")

	helmed(t, "install", "serin", chart, "-n", system, "--wait", "--timeout", patience.String())
	controller := startController(t, system, "serin")
	if err := r.release("--set", "image=registry.example/checkout:5"); err != nil {
		t.Fatal(err)
	}
	r.is(".status.stable.image", "registry.example/checkout:5")
	controller.stop(t)
	helmed(t, "uninstall", "serin", "-n", system, "--wait", "--timeout", patience.String())
}

// takenOver is an installation by kustomize that becomes a release.
func takenOver(t *testing.T) {
	kubectled(t, "", "apply", "--server-side", "--force-conflicts", "-k", "../../deploy")
	pods := func() string {
		return kubectled(t, "", "get", "deployment", "serin", "-n", system, "-o", "jsonpath={.metadata.uid} {.spec.selector}")
	}
	before := pods()
	helmed(t, "install", "serin", chart, "-n", system, "--take-ownership", "--force-conflicts", "--set", "prometheusUrl=http://prometheus.monitoring:9090", "--wait", "--timeout", patience.String())
	if after := pods(); after != before {
		t.Errorf("the Deployment is another one: %s, before %s", after, before)
	}
	helmed(t, "uninstall", "serin", "-n", system, "--wait", "--timeout", patience.String())
}

// TestOneNamespace is a controller that may do nothing outside of the one namespace that it looks after.
func TestOneNamespace(t *testing.T) {
	namespaces(t, "istio-system", "alone")
	// Where another installation has the definitions, this one leaves them alone.
	kubectled(t, "", "apply", "--server-side", "--force-conflicts", "-k", "../../crds")
	helmed(t, "install", "serin-alone", chart, "-n", "serin-alone", "--create-namespace", "--set", "name=serin-alone,watchNamespace=alone,crds.install=false,rbac.userRoles=false,page.enabled=true,page.users={ada}", "--wait", "--timeout", patience.String())
	controller := startController(t, "serin-alone", "serin-alone")
	rollout{t, "alone"}.promoted()
	account := "system:serviceaccount:serin-alone:serin-alone"
	for what, want := range map[string]bool{
		"patch rollouts --subresource=status -n alone": true,
		"patch rollouts --subresource=status -n shop":  false,
		"list pods -A":         false,
		"list rollouts -A":     false,
		"watch services -A":    false,
		"list metricproviders": true,
		"get secrets -n alone": false,
	} {
		if found := may(t, account, strings.Fields(what)...); found != want {
			t.Errorf("it may %s: %t", what, found)
		}
	}
	page(t, "serin-alone", "serin-alone-dashboard")
	controller.stop(t)
	helmed(t, "uninstall", "serin-alone", "-n", "serin-alone", "--wait", "--timeout", patience.String())
}

// page is the page in a pod, with the rights of its account and what ada needs to reach it.
func page(t *testing.T, namespace, name string) {
	port := freePort(t)
	server := start(t, namespace, name, "--port="+port)
	defer server.stop(t)
	for _, path := range []string{"/", "/rollouts/alone/checkout", "/rollouts/alone/checkout/simulate"} {
		shown := fetched(t, "http://127.0.0.1:"+port+path)
		for _, wrong := range []string{"forbidden", "may not"} {
			if strings.Contains(shown, wrong) {
				t.Errorf("%s says %q:\n%s", path, wrong, shown)
			}
		}
		if !strings.Contains(shown, "checkout") || !strings.Contains(shown, "alone") {
			t.Errorf("%s does not show the Rollout:\n%s", path, shown)
		}
	}
	account := "system:serviceaccount:" + namespace + ":" + name
	for _, one := range []struct {
		who, what string
		want      bool
	}{
		{account, "patch rollouts -n alone", false},
		{account, "create rolloutactions -n alone", false},
		{account, "get secrets -n alone", false},
		{account, "list rollouts -n shop", false},
		{"ada", "create pods --subresource=portforward -n " + namespace, true},
		{"ada", "get deployments.apps/" + name + " -n " + namespace, true},
		{"ada", "get deployments.apps/serin-alone -n " + namespace, false},
		{"ada", "delete pods -n " + namespace, false},
	} {
		if found := may(t, one.who, strings.Fields(one.what)...); found != one.want {
			t.Errorf("%s may %s: %t", one.who, one.what, found)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// fetched is what a server answers, once it does.
func fetched(t *testing.T, url string) string {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		answer, err := http.Get(url)
		if err == nil {
			text, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err == nil && answer.StatusCode == http.StatusOK {
				return string(text)
			}
		}
		if time.Now().After(until) {
			t.Fatalf("%s: %v %v", url, answer, err)
		}
	}
}

// copyChart copies the chart with what its links lead to.
func copyChart(t *testing.T, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-rL", chart, to).CombinedOutput(); err != nil {
		t.Fatalf("%s: %s", err, out)
	}
}
