package kustomize

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// printed are the patches that `kubectl serin … --emit` prints, as the plugin's page has them, by their commands.
func printed(t *testing.T) map[string]string {
	t.Helper()
	page := string(bytes(t, "../../../../docs/kubectl-serin/acting.md"))
	found := map[string]string{}
	for _, match := range regexp.MustCompile(`(?m)^\$ (.* --emit)\n((?:[^$\x60].*\n)+)`).FindAllStringSubmatch(page, -1) {
		if strings.HasPrefix(match[2], "# For Git") {
			found[match[1]] = match[2]
		}
	}
	require.GreaterOrEqual(t, len(found), 3)
	return found
}

// What is printed is a patch as it stands where the base has no namespace, and by the target that it names in every base.
func TestPrintedPatches(t *testing.T) {
	for command, patch := range printed(t) {
		entry := regexp.MustCompile(`patches: \[.*\]`).FindString(patch)
		require.NotEmpty(t, entry, command)
		plain := "patches: [{path: patch.yaml}]"
		target := strings.ReplaceAll(entry, "THIS", "patch.yaml")
		for _, one := range []struct{ base, kustomization, wanted string }{
			{"", plain, ""},
			{"", plain + "\nnamespace: shop", "shop"},
			{"", target, ""},
			{"", target + "\nnamespace: shop", "shop"},
			{", namespace: shop", target, "shop"},
			{", namespace: shop", target + "\nnamespace: other", "other"},
		} {
			t.Run(command+one.base+one.kustomization, func(t *testing.T) {
				folder := t.TempDir()
				manifest := fmt.Sprintf("apiVersion: serin.dev/v1alpha1\nkind: Rollout\nmetadata: {name: checkout%s}\nspec: {replicas: 4}\n", one.base)
				for name, text := range map[string]string{
					"rollout.yaml": manifest, "patch.yaml": patch,
					"kustomization.yaml": "resources: [rollout.yaml]\n" + one.kustomization + "\n",
				} {
					require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644))
				}
				built := build(t, folder, "")
				var wanted map[string]any
				require.NoError(t, yaml.Unmarshal([]byte(patch), &wanted))
				spec := wanted["spec"].(map[string]any)
				spec["replicas"] = float64(4)
				require.Equal(t, []any{wanted["spec"]}, built.at(t, "Rollout/checkout", "spec"))
				namespace, _ := built["Rollout/checkout"]["metadata"].(map[string]any)["namespace"].(string)
				require.Equal(t, one.wanted, namespace)
			})
		}
	}
}
