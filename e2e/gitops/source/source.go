// Package source does for Flux what its source-controller does: it makes an archive of a branch's last commit, serves it, and
// says so in the status of the GitRepository. It also asks the engines each second to look at Git, as a webhook would.
//
// The address of a GitRepository is not read: its repository is the folder that has its namespace's name.
package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"serin.dev/e2e/mesh/kube"
)

const (
	// look is how often commits are looked for.
	look = 200 * time.Millisecond
	// ask is how often an engine is asked to look at Git.
	ask = time.Second

	repositoriesPath   = "/apis/source.toolkit.fluxcd.io/v1/gitrepositories"
	kustomizationsPath = "/apis/kustomize.toolkit.fluxcd.io/v1/kustomizations"
	applicationsPath   = "/apis/argoproj.io/v1alpha1/applications"
)

// Server serves archives of commits by their path.
type Server struct {
	client       *kube.Client
	repositories string
	address      string
	lock         sync.Mutex
	archives     map[string][]byte
}

// New is a server of the repositories in a folder, reached at an address.
func New(client *kube.Client, repositories, address string) *Server {
	return &Server{client: client, repositories: repositories, address: address, archives: map[string][]byte{}}
}

func (s *Server) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	s.lock.Lock()
	archive, isThere := s.archives[request.URL.Path]
	s.lock.Unlock()
	if !isThere {
		http.NotFound(answer, request)
		return
	}
	_, _ = answer.Write(archive)
}

type object struct {
	Metadata struct {
		Namespace  string `json:"namespace"`
		Name       string `json:"name"`
		Generation int64  `json:"generation"`
	} `json:"metadata"`
	Spec struct {
		Reference struct {
			Branch string `json:"branch"`
		} `json:"ref"`
	} `json:"spec"`
	Status struct {
		ObservedGeneration int64 `json:"observedGeneration"`
		Artifact           struct {
			Revision string `json:"revision"`
		} `json:"artifact"`
	} `json:"status"`
}

// path is the object's own, by that of its collection in all namespaces.
func (o object) path(collection string) string {
	at := strings.LastIndex(collection, "/")
	return fmt.Sprintf("%s/namespaces/%s%s/%s", collection[:at], o.Metadata.Namespace, collection[at:], o.Metadata.Name)
}

// Follow publishes new commits and asks the engines, until the context is done.
func (s *Server) Follow(ctx context.Context) {
	asked := time.Time{}
	for ctx.Err() == nil {
		s.each(ctx, repositoriesPath, s.publish)
		if time.Since(asked) >= ask {
			asked = time.Now()
			s.annotate(ctx, kustomizationsPath, "reconcile.fluxcd.io/requestedAt", asked.Format(time.RFC3339Nano))
			s.annotate(ctx, applicationsPath, "argocd.argoproj.io/refresh", "normal")
		}
		select {
		case <-ctx.Done():
		case <-time.After(look):
		}
	}
}

// each does something with every object of a collection; what fails is tried at the next look.
func (s *Server) each(ctx context.Context, collection string, do func(context.Context, object) error) {
	var list struct {
		Items []object `json:"items"`
	}
	if err := s.client.Get(ctx, collection, &list); err != nil {
		fmt.Println(collection, err)
		return
	}
	for _, item := range list.Items {
		if err := do(ctx, item); err != nil && ctx.Err() == nil && !kube.IsGone(err) {
			fmt.Println(item.path(collection), err)
		}
	}
}

func (s *Server) annotate(ctx context.Context, collection, key, value string) {
	s.each(ctx, collection, func(ctx context.Context, item object) error {
		return s.client.Patch(ctx, item.path(collection), map[string]any{
			"metadata": map[string]any{"annotations": map[string]string{key: value}},
		})
	})
}

// publish makes an archive of a branch's last commit, unless that is out already.
func (s *Server) publish(ctx context.Context, item object) error {
	folder, branch := filepath.Join(s.repositories, item.Metadata.Namespace), item.Spec.Reference.Branch
	commit, err := git(ctx, folder, "rev-parse", "--verify", "refs/heads/"+branch)
	if err != nil {
		return err
	}
	revision := branch + "@sha1:" + strings.TrimSpace(string(commit))
	if item.Status.Artifact.Revision == revision && item.Status.ObservedGeneration == item.Metadata.Generation {
		return nil
	}
	archive, err := git(ctx, folder, "archive", "--format=tar.gz", strings.TrimSpace(string(commit)))
	if err != nil {
		return err
	}
	digest := sha256.Sum256(archive)
	path := fmt.Sprintf("/%s/%s/%x.tar.gz", item.Metadata.Namespace, item.Metadata.Name, digest)
	s.lock.Lock()
	s.archives[path] = archive
	s.lock.Unlock()
	now := time.Now().UTC().Format(time.RFC3339)
	return s.client.Patch(ctx, item.path(repositoriesPath)+"/status", map[string]any{"status": map[string]any{
		"observedGeneration": item.Metadata.Generation,
		"artifact": map[string]any{
			"url": s.address + path, "path": path[1:], "revision": revision, "digest": "sha256:" + hex.EncodeToString(digest[:]),
			"size": len(archive), "lastUpdateTime": now,
		},
		"conditions": []any{map[string]any{
			"type": "Ready", "status": "True", "reason": "Succeeded", "message": "stored artifact for revision " + revision,
			"observedGeneration": item.Metadata.Generation, "lastTransitionTime": now,
		}},
	}})
}

func git(ctx context.Context, folder string, arguments ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, "git", append([]string{"-C", folder}, arguments...)...)
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("git %s in %s: %w", arguments[0], folder, err)
	}
	return out, nil
}
