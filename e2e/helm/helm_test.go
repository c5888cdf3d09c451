// Package helm is the story of a Rollout that Helm installs, upgrades and waits for; run by e2e/helm/run.
package helm

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/cmd"
)

const patience = 90 * time.Second

// helm is Helm's command line.
func helm(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	command, err := cmd.NewRootCmd(&out, arguments, func(bool) {})
	if err != nil {
		t.Fatal(err)
	}
	command.SetArgs(arguments)
	command.SetErr(&out)
	err = command.Execute()
	t.Log("helm", strings.Join(arguments, " "), err)
	return out.String(), err
}

func field(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command(os.Getenv("E2E_KUBECTL"), "get", "rollout", "checkout", "-o", "jsonpath={"+path+"}").CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %s", err, out)
	}
	return string(out)
}

func TestRelease(t *testing.T) {
	release := func(more ...string) error {
		arguments := []string{"upgrade", "--install", "checkout", "testdata/checkout", "--wait", "--timeout", patience.String()}
		out, err := helm(t, append(arguments, more...)...)
		if err != nil {
			t.Log(out)
		}
		return err
	}
	is := func(path, want string) {
		t.Helper()
		if found := field(t, path); found != want {
			t.Errorf("%s is %q, not %q", path, found, want)
		}
	}

	if err := release(); err != nil {
		t.Fatal(err)
	}
	is(".status.phase", "Healthy")
	version := field(t, ".metadata.resourceVersion")

	if err := release(); err != nil {
		t.Fatal(err)
	}
	is(".metadata.resourceVersion", version)

	if err := release("--set", "image=registry.example/checkout:2"); err != nil {
		t.Fatal(err)
	}
	is(".status.phase", "Healthy")
	is(".status.stable.image", "registry.example/checkout:2")

	began := time.Now()
	if err := release("--set", "image=registry.example/checkout:3", "--set", "isReady=false"); err == nil {
		t.Error("Helm takes an aborted canary for a success")
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("Helm waits %s for an aborted canary", took)
	}
	is(".status.phase", "Degraded")
	is(".status.stable.image", "registry.example/checkout:2")
}
