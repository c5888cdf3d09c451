// Package helm is the story of the chart: rendered, installed, upgraded and removed by Helm; and of Rollouts that Helm releases
// and waits for. Run by e2e/helm/run.
package helm

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/cmd"
)

const (
	patience = 90 * time.Second
	chart    = "../../charts/serin"
)

// helm is Helm's command line: what it prints, on standard error too.
func helm(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	// Helm tells of every link that it follows.
	slog.SetLogLoggerLevel(slog.LevelWarn)
	if arguments[0] == "template" {
		// A test does not know which Kubernetes Helm was built for.
		arguments = append(arguments, "--kube-version", "v1.32.0")
	}
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

// helmed is helm that must not fail.
func helmed(t *testing.T, arguments ...string) string {
	t.Helper()
	out, err := helm(t, arguments...)
	if err != nil {
		t.Fatalf("%s\n%s", err, out)
	}
	return out
}

// kubectl is kubectl as the administrator, who may be somebody else by --as.
func kubectl(t *testing.T, input string, arguments ...string) (string, error) {
	t.Helper()
	command := exec.Command(os.Getenv("E2E_KUBECTL"), arguments...)
	command.Stdin = strings.NewReader(input)
	out, err := command.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// kubectled is kubectl that must not fail.
func kubectled(t *testing.T, input string, arguments ...string) string {
	t.Helper()
	out, err := kubectl(t, input, arguments...)
	if err != nil {
		t.Fatalf("kubectl %s: %s", strings.Join(arguments, " "), out)
	}
	return out
}

// namespaces makes namespaces that are not there yet.
func namespaces(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		kubectled(t, `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "`+name+`"}}`, "apply", "-f", "-")
	}
}

// controller runs the binary outside of the cluster, as the Deployment of an installation says: with its arguments, its
// environment and a token of its account. Nobody else's rights help it.
type controller struct {
	log     string
	command *exec.Cmd
}

func startController(t *testing.T, namespace, name string) *controller {
	t.Helper()
	return start(t, namespace, name, "--listen=127.0.0.1:0", "--route-wait=0.2", "--log-format=text")
}

// start does the same for any Deployment of an installation, with more arguments.
func start(t *testing.T, namespace, name string, more ...string) *controller {
	t.Helper()
	var deployment struct {
		Spec struct {
			Template struct {
				Spec struct {
					ServiceAccountName string
					Containers         []struct {
						Args []string
						Env  []struct{ Name, Value string }
					}
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(kubectled(t, "", "get", "deployment", name, "-n", namespace, "-o", "json")), &deployment); err != nil {
		t.Fatal(err)
	}
	pod := deployment.Spec.Template.Spec
	token := kubectled(t, "", "create", "token", pod.ServiceAccountName, "-n", namespace)
	dir := t.TempDir()
	c := &controller{log: filepath.Join(dir, "serin.log")}
	log, err := os.Create(c.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	container := pod.Containers[0]
	c.command = exec.Command(os.Getenv("SERIN_BIN"), append(container.Args, more...)...)
	c.command.Stderr = log
	c.command.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig(t, dir, token), "POD_NAME="+name, "POD_NAMESPACE="+namespace)
	for _, variable := range container.Env {
		if variable.Value != "" {
			c.command.Env = append(c.command.Env, variable.Name+"="+variable.Value)
		}
	}
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.stop(t) })
	return c
}

// stop ends the controller and looks at what it said.
func (c *controller) stop(t *testing.T) {
	if c.command == nil {
		return
	}
	_ = c.command.Process.Signal(os.Interrupt)
	_ = c.command.Wait()
	c.command = nil
	log, err := os.ReadFile(c.log)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), "forbidden") {
		t.Errorf("a right is missing")
	}
	if t.Failed() {
		t.Logf("the controller's log:\n%s", log)
	}
}

// kubeconfig is the administrator's with another user's token.
func kubeconfig(t *testing.T, dir, token string) string {
	t.Helper()
	path := filepath.Join(dir, "kubeconfig")
	config := kubectled(t, "", "config", "view", "--raw", "--minify")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	user := kubectled(t, "", "config", "view", "--minify", "-o", "jsonpath={.contexts[0].context.user}")
	kubectled(t, "", "--kubeconfig", path, "config", "unset", "users."+user)
	kubectled(t, "", "--kubeconfig", path, "config", "set-credentials", user, "--token="+token)
	return path
}

// rollout is the Rollout `checkout` of a namespace, which a chart of its own releases.
type rollout struct {
	t         *testing.T
	namespace string
}

func (r rollout) release(more ...string) error {
	r.t.Helper()
	arguments := []string{"upgrade", "--install", "checkout", "testdata/checkout", "-n", r.namespace, "--create-namespace", "--wait", "--timeout", patience.String()}
	out, err := helm(r.t, append(arguments, more...)...)
	if err != nil {
		r.t.Log(out)
	}
	return err
}

func (r rollout) field(path string) string {
	r.t.Helper()
	return kubectled(r.t, "", "get", "rollout", "checkout", "-n", r.namespace, "-o", "jsonpath={"+path+"}")
}

func (r rollout) is(path, want string) {
	r.t.Helper()
	if found := r.field(path); found != want {
		r.t.Errorf("%s is %q, not %q", path, found, want)
	}
}

// promoted releases a first image and then a second one, by a canary.
func (r rollout) promoted() {
	r.t.Helper()
	if err := r.release(); err != nil {
		r.t.Fatal(err)
	}
	r.is(".status.phase", "Healthy")
	if err := r.release("--set", "image=registry.example/checkout:2"); err != nil {
		r.t.Fatal(err)
	}
	r.is(".status.phase", "Healthy")
	r.is(".status.stable.image", "registry.example/checkout:2")
	r.is(".status.history[0].outcome", "Promoted")
}
