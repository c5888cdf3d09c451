package pods

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"serin.dev/e2e/mesh/echo"
	"serin.dev/e2e/mesh/kube"
	"serin.dev/e2e/mesh/kube/kubetest"
)

// TestMain lets this test's binary be the echo process too, which the runner starts as itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "echo" {
		if err := echo.Command(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// newRunner is a runner on an API server that only notes which pods are removed.
func newRunner(t *testing.T) (*runner, <-chan string) {
	t.Helper()
	removed := make(chan string, 10)
	client := kubetest.NewClient(t, func(answer http.ResponseWriter, request *http.Request) {
		removed <- request.Method + " " + request.URL.Path
		fmt.Fprint(answer, "{}")
	})
	return &runner{ctx: context.Background(), client: client, processes: map[string]*process{}}, removed
}

// event is a change of the pod `a`, which listens at that port.
func event(kind string, port int, annotations, deletion string) kube.Event {
	return kube.Event{Type: kind, Object: json.RawMessage(fmt.Sprintf(`{
		"metadata": {"name": "a", "namespace": "n", "uid": "u", "annotations": {%s}%s},
		"spec": {"containers": [{"ports": [{"containerPort": %d}]}]}, "status": {"podIP": "127.0.0.1"}}`, annotations, deletion, port))}
}

const deleted = `, "deletionTimestamp": "2030-01-01T00:00:00Z", "deletionGracePeriodSeconds": 2`

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// listens waits until something listens there, or nothing does.
func listens(t *testing.T, port int, want bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			connection.Close()
		}
		if (err == nil) == want {
			return
		}
	}
	t.Fatalf("port %d: listening is not %v", port, want)
}

func TestPodIsRunAndRemoved(t *testing.T) {
	r, removed := newRunner(t)
	port := freePort(t)
	r.see(event("ADDED", port, "", ""))
	listens(t, port, true)
	asked := time.Now()
	r.see(event("MODIFIED", port, "", deleted))
	if got := <-removed; got != "DELETE /api/v1/namespaces/n/pods/a" || time.Since(asked) > 1900*time.Millisecond {
		t.Errorf("%s after %s", got, time.Since(asked))
	}
	listens(t, port, false)
	r.see(event("DELETED", port, "", deleted))
	if len(r.processes) != 0 {
		t.Error("a process is left")
	}
}

func TestGraceEnds(t *testing.T) {
	r, removed := newRunner(t)
	port := freePort(t)
	r.see(event("ADDED", port, `"mesh.serin.dev/drain": "1m"`, ""))
	listens(t, port, true)
	asked := time.Now()
	r.see(event("MODIFIED", port, "", deleted))
	listens(t, port, true)
	<-removed
	if waited := time.Since(asked); waited < 2*time.Second {
		t.Errorf("killed after %s", waited)
	}
	listens(t, port, false)
}

func TestPodThatIsNotListedIsKilled(t *testing.T) {
	r, _ := newRunner(t)
	port := freePort(t)
	r.see(event(kube.Listed, port, "", ""))
	r.see(kube.Event{Type: kube.Synced})
	listens(t, port, true)
	r.see(kube.Event{Type: kube.Synced})
	listens(t, port, false)
}
