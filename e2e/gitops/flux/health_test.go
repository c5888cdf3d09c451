// Package flux tests what the libraries of Flux make of Rollouts.
package flux

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	kustomize "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const deploy = "../../../deploy"

// wanted is the status of each state: by kstatus (Flux without expressions, Helm), and by the two sets of expressions.
var wanted = map[string]struct{ kstatus, strict, accepted status.Status }{
	"new":               {status.InProgressStatus, status.InProgressStatus, status.InProgressStatus},
	"behind":            {status.InProgressStatus, status.InProgressStatus, status.InProgressStatus},
	"healthy":           {status.CurrentStatus, status.CurrentStatus, status.CurrentStatus},
	"progressing":       {status.InProgressStatus, status.InProgressStatus, status.CurrentStatus},
	"awaiting-approval": {status.InProgressStatus, status.InProgressStatus, status.CurrentStatus},
	"paused-by-step":    {status.InProgressStatus, status.InProgressStatus, status.CurrentStatus},
	"paused-by-action":  {status.InProgressStatus, status.InProgressStatus, status.CurrentStatus},
	"aborted":           {status.FailedStatus, status.FailedStatus, status.CurrentStatus},
	"invalid":           {status.FailedStatus, status.FailedStatus, status.FailedStatus},
}

// states are the Rollouts that Argo CD's scripts are tested with, by their files' names.
func states(t *testing.T) map[string]*unstructured.Unstructured {
	t.Helper()
	paths, err := filepath.Glob(deploy + "/argocd/resource_customizations/serin.dev/Rollout/testdata/*.yaml")
	must(t, err)
	found := map[string]*unstructured.Unstructured{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		must(t, err)
		text, err = yaml.YAMLToJSONStrict(text)
		must(t, err)
		var state unstructured.Unstructured
		must(t, state.UnmarshalJSON(text))
		found[strings.TrimSuffix(filepath.Base(path), ".yaml")] = &state
	}
	if len(found) != len(wanted) {
		t.Fatalf("%d states, and %d are told of", len(found), len(wanted))
	}
	return found
}

func TestKstatus(t *testing.T) {
	for name, state := range states(t) {
		found, err := status.Compute(state)
		must(t, err)
		if found.Status != wanted[name].kstatus {
			t.Errorf("%s: %s (%s), not %s", name, found.Status, found.Message, wanted[name].kstatus)
		}
	}
}

func TestHealthChecks(t *testing.T) {
	text, err := os.ReadFile(deploy + "/flux/health-checks.yaml")
	must(t, err)
	documents := bytes.Split(text, []byte("\n---\n"))
	if len(documents) != 2 {
		t.Fatalf("%d sets of expressions", len(documents))
	}
	for _, document := range documents {
		var set kustomize.Kustomization
		must(t, yaml.UnmarshalStrict(document, &set))
		check := set.Spec.HealthCheckExprs[0]
		evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
		must(t, err)
		for name, state := range states(t) {
			if state.GetAPIVersion() != check.APIVersion || state.GetKind() != check.Kind {
				t.Fatalf("%s: the expressions are of %s %s", name, check.APIVersion, check.Kind)
			}
			found, err := evaluator.Evaluate(t.Context(), state)
			must(t, err)
			want := map[string]status.Status{"strict": wanted[name].strict, "accepted": wanted[name].accepted}[set.Name]
			if found.Status != want {
				t.Errorf("%s: %s: %s, not %s", set.Name, name, found.Status, want)
			}
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
