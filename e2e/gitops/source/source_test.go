package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"serin.dev/e2e/mesh/kube/kubetest"
)

func commit(t *testing.T, folder, content string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, "rollout.yaml"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, arguments := range [][]string{
		{"init", "--quiet", "--initial-branch=main"}, {"add", "--all"},
		{"-c", "user.name=alice", "-c", "user.email=alice@example.com", "commit", "--quiet", "--message", "image"},
	} {
		command := exec.Command("git", arguments...)
		command.Dir = folder
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %s", arguments[0], out)
		}
	}
	head, err := git(context.Background(), folder, "rev-parse", "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(head))
}

func TestEachCommitIsPublishedOnce(t *testing.T) {
	repositories := t.TempDir()
	folder := filepath.Join(repositories, "shop")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	var patched struct {
		Status struct {
			ObservedGeneration int64
			Artifact           struct{ URL, Revision, Digest string }
		}
	}
	patches := 0
	client := kubetest.NewClient(t, func(answer http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/apis/source.toolkit.fluxcd.io/v1/namespaces/shop/gitrepositories/app/status" {
			t.Error(request.URL)
		}
		patches++
		_ = json.NewDecoder(request.Body).Decode(&patched)
	})
	server := New(client, repositories, "http://127.0.0.1:1")
	var item object
	item.Metadata.Namespace, item.Metadata.Name, item.Metadata.Generation = "shop", "app", 1
	item.Spec.Reference.Branch = "main"
	for round, content := range []string{"image: checkout:1\n", "image: checkout:2\n"} {
		head := commit(t, folder, content)
		for range 2 {
			if err := server.publish(context.Background(), item); err != nil {
				t.Fatal(err)
			}
			item.Status.ObservedGeneration = patched.Status.ObservedGeneration
			item.Status.Artifact.Revision = patched.Status.Artifact.Revision
		}
		if patches != round+1 || patched.Status.Artifact.Revision != "main@sha1:"+head {
			t.Errorf("%d patches, revision %s", patches, patched.Status.Artifact.Revision)
		}
		if got := fetch(t, server, strings.TrimPrefix(patched.Status.Artifact.URL, "http://127.0.0.1:1")); got != content {
			t.Errorf("the archive has %q", got)
		}
	}
}

// fetch is the content of rollout.yaml in an archive.
func fetch(t *testing.T, server *Server, path string) string {
	t.Helper()
	answer := httptest.NewRecorder()
	server.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
	unpacked, err := gzip.NewReader(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(unpacked)
	for {
		header, err := archive.Next()
		if err != nil {
			t.Fatal(err)
		}
		if header.Name == "rollout.yaml" {
			var content bytes.Buffer
			_, _ = content.ReadFrom(archive)
			return content.String()
		}
	}
}
