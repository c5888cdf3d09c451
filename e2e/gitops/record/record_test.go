package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"serin.dev/e2e/mesh/kube/kubetest"
)

// newRecorder is a recorder before an API server that holds one object with this spec, and takes what is sent in its place.
func newRecorder(t *testing.T, spec string, out *bytes.Buffer) *httptest.Server {
	t.Helper()
	version := 1
	client := kubetest.NewClient(t, func(answer http.ResponseWriter, request *http.Request) {
		if request.Header.Get("Authorization") != "Bearer t" {
			t.Errorf("%s without credentials", request.URL)
		}
		if request.Method == http.MethodPatch {
			text := new(bytes.Buffer)
			_, _ = text.ReadFrom(request.Body)
			spec, version = text.String(), version+1
		}
		fmt.Fprintf(answer, `{"kind":"Rollout","metadata":{"name":"checkout","resourceVersion":"%d"},"spec":%s,"status":{"n":%d}}`, version, spec, version)
	})
	recorder, err := New(client, out)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(recorder)
	t.Cleanup(server.Close)
	return server
}

func send(t *testing.T, method, url, kind, body string) {
	t.Helper()
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", kind)
	request.Header.Set("User-Agent", "kustomize-controller/v0.0.0")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
}

func TestWritesAreWrittenDown(t *testing.T) {
	var out bytes.Buffer
	server := newRecorder(t, `{"replicas":1}`, &out)
	path := server.URL + "/apis/serin.dev/v1alpha1/namespaces/shop/rollouts/checkout"
	send(t, http.MethodGet, path, "", "")
	send(t, http.MethodPatch, path+"?dryRun=All", "application/apply-patch+yaml", `{"replicas":1}`)
	send(t, http.MethodPatch, path+"?force=true", "application/apply-patch+yaml", `{"replicas":1}`)
	send(t, http.MethodPatch, path, "application/merge-patch+json", `{"replicas":2}`)
	send(t, http.MethodDelete, path, "", "")
	send(t, http.MethodPost, server.URL+"/api/v1/namespaces/shop/services", "application/json", `{}`)
	var got []string
	for line := range strings.Lines(out.String()) {
		var write Write
		if err := json.Unmarshal([]byte(line), &write); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(write.Agent, " ", write.Operation, " ", write.Group, " ", write.Namespace, " ", write.Resource, " ", write.Name, " ", write.Status, " ", write.Changed))
	}
	want := []string{
		"kustomize-controller apply serin.dev shop rollouts checkout 200 false",
		"kustomize-controller patch serin.dev shop rollouts checkout 200 true",
		"kustomize-controller delete serin.dev shop rollouts checkout 200 true",
		"kustomize-controller create  shop services checkout 200 true",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestPathsOfWrites(t *testing.T) {
	for path, want := range map[string]string{
		"/api/v1/namespaces/shop": "/namespaces/shop",
		"/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/shop/status": "argoproj.io/applications/status/shop",
		"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":                "",
		"/version": "",
	} {
		write, isWrite := parse(httptest.NewRequest(http.MethodPut, path, nil))
		got := ""
		if isWrite {
			got = write.Group + "/" + write.Resource + "/" + write.Name
		}
		if got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
}
