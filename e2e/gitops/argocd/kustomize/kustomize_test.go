// Package kustomize tests deploy/kustomize with Kustomize itself.
package kustomize

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kustomize/v5/commands"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/yaml"
)

const shipped = "../../../../deploy/kustomize"

func bytes(t *testing.T, path string) []byte {
	t.Helper()
	found, err := os.ReadFile(path)
	require.NoError(t, err)
	return found
}

// folder holds what is shipped and the base beside each other.
func folder(t *testing.T) string {
	t.Helper()
	into := t.TempDir()
	for _, from := range []string{shipped, "testdata/base"} {
		require.NoError(t, os.CopyFS(into, os.DirFS(from)))
	}
	return into
}

// objects are what Kustomize built, by kind and name.
type objects map[string]map[string]any

// build builds a folder with more in its kustomization.
func build(t *testing.T, folder, more string) objects {
	t.Helper()
	path := filepath.Join(folder, "kustomization.yaml")
	require.NoError(t, os.WriteFile(path, append(bytes(t, path), more...), 0o644))
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	require.NoError(t, err)
	found := objects{}
	for _, one := range built.Resources() {
		text, err := one.AsYAML()
		require.NoError(t, err)
		var fields map[string]any
		require.NoError(t, yaml.Unmarshal(text, &fields))
		found[one.GetKind()+"/"+one.GetName()] = fields
	}
	return found
}

// at is what stands at a path of fields, through all lists on the way.
func at(value any, path string) []any {
	if path == "" {
		if list, ok := value.([]any); ok {
			return list
		}
		return []any{value}
	}
	switch value := value.(type) {
	case []any:
		var found []any
		for _, item := range value {
			found = append(found, at(item, path)...)
		}
		return found
	case map[string]any:
		field, rest, _ := strings.Cut(path, "/")
		if inner, ok := value[field]; ok {
			return at(inner, rest)
		}
	}
	return nil
}

func (all objects) at(t *testing.T, object, path string) []any {
	t.Helper()
	require.Contains(t, all, object)
	return at(all[object], path)
}

type fieldSpec struct {
	Path, Kind, Group string
	Create            bool
}

type configuration struct {
	NameReference []struct {
		Kind, Group string
		FieldSpecs  []fieldSpec
	}
	CommonLabels, TemplateLabels, CommonAnnotations, Replicas []fieldSpec
}

func shippedConfiguration(t *testing.T) configuration {
	t.Helper()
	var found configuration
	require.NoError(t, yaml.UnmarshalStrict(bytes(t, shipped+"/configuration.yaml"), &found))
	return found
}

// Every reference that the configuration names is in the base, and gets the prefix of what it refers to.
func TestReferences(t *testing.T) {
	built := build(t, folder(t), "namePrefix: eu-\n")
	for _, reference := range shippedConfiguration(t).NameReference {
		for _, field := range reference.FieldSpecs {
			found := 0
			for _, object := range built {
				if object["kind"] != field.Kind || !strings.HasPrefix(object["apiVersion"].(string), field.Group+"/") {
					continue
				}
				for _, name := range at(object, field.Path) {
					if name == "shop.example" {
						continue
					}
					found++
					require.True(t, strings.HasPrefix(fmt.Sprint(name), "eu-"), "%s %s: %s", field.Kind, field.Path, name)
				}
			}
			require.NotZero(t, found, "no %s has %s, which refers to a %s", field.Kind, field.Path, reference.Kind)
		}
	}
	settings := built.at(t, "Rollout/eu-in-place", "spec/template/spec/volumes/configMap/name")
	require.Regexp(t, "^eu-settings-[a-z0-9]+$", settings[0], "the name of what is generated has its hash")
}

// Labels reach every place that a Deployment's reach, and no template appears where there is none.
func TestLabelsAndAnnotations(t *testing.T) {
	labels := "labels: [{pairs: {tier: front}, includeSelectors: true}]\ncommonAnnotations: {serin.dev/git-commit: 4f2a91c}\n"
	built, configuration := build(t, folder(t), labels), shippedConfiguration(t)
	for _, field := range append(configuration.CommonLabels, configuration.TemplateLabels...) {
		require.Equal(t, []any{"front"}, built.at(t, "Rollout/in-place", field.Path+"/tier"), field.Path)
	}
	for _, field := range configuration.CommonAnnotations {
		require.Equal(t, []any{"4f2a91c"}, at(at(built["Rollout/in-place"], field.Path)[0].(map[string]any)["serin.dev/git-commit"], ""))
	}
	owned := built["Rollout/owned"]["spec"].(map[string]any)
	require.NotContains(t, owned, "template")
	require.NotContains(t, owned, "selector")
	require.Empty(t, at(build(t, folder(t), "")["Rollout/in-place"], "spec/selector/matchLabels/tier"))

	templates := build(t, folder(t), "labels: [{pairs: {tier: front}, includeTemplates: true}]\n")
	require.Equal(t, []any{"front"}, templates.at(t, "Rollout/in-place", "spec/template/metadata/labels/tier"))
	require.Empty(t, templates.at(t, "Rollout/in-place", "spec/selector/matchLabels/tier"))
}

func TestReplicas(t *testing.T) {
	built := build(t, folder(t), "replicas: [{name: in-place, count: 7}, {name: legacy, count: 3}]\n")
	require.Equal(t, []any{float64(7)}, built.at(t, "Rollout/in-place", "spec/replicas"))
	require.Equal(t, []any{float64(3)}, built.at(t, "Deployment/legacy", "spec/replicas"))
}

// What is written by `kustomize edit set image`, with nothing of ours.
func TestImages(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.CopyFS(root, os.DirFS("testdata/base")))
	require.NoError(t, os.WriteFile(filepath.Join(root, "kustomization.yaml"), []byte("resources: [rollouts.yaml]\n"), 0o644))
	t.Chdir(root)
	edit := commands.NewDefaultCommand()
	edit.SetArgs([]string{"edit", "set", "image", "registry.example/checkout:2", "registry.example/prepare:2"})
	require.NoError(t, edit.Execute())
	built := build(t, root, "")
	require.Equal(t, []any{"registry.example/checkout:2", "registry.example/log:1"},
		built.at(t, "Rollout/in-place", "spec/template/spec/containers/image"))
	require.Equal(t, []any{"registry.example/prepare:2"}, built.at(t, "Rollout/in-place", "spec/template/spec/initContainers/image"))
}

const patches = `patches:
- patch: |
    apiVersion: serin.dev/v1alpha1
    kind: Rollout
    metadata: {name: in-place}
    spec:
      template:
        spec:
          containers:
          - {name: app, env: [{name: MORE, value: "1"}], ports: [{containerPort: 8080, protocol: UDP, name: dns}]}
          volumes: [{name: files, $patch: delete}]
- patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: legacy}
    spec: {template: {spec: {containers: [{name: log, image: "registry.example/log:2"}]}}}
- patch: |
    apiVersion: v1
    kind: Service
    metadata: {name: checkout}
    spec: {ports: [{port: 81, name: more}]}
`

// A patch of one container keeps the others, of a Rollout and of Kubernetes' own kinds.
func TestMerge(t *testing.T) {
	built := build(t, folder(t), patches)
	of := func(path string) []any { return built.at(t, "Rollout/in-place", "spec/template/spec/"+path) }
	require.Equal(t, []any{"registry.example/checkout:1", "registry.example/log:1"}, of("containers/image"))
	require.ElementsMatch(t, []any{"LEVEL", "KEY", "MORE"}, of("containers/env/name"))
	require.ElementsMatch(t, []any{"http", "dns"}, of("containers/ports/name"))
	require.ElementsMatch(t, []any{"settings", "key", "both"}, of("volumes/name"))
	require.ElementsMatch(t, []any{"registry.example/legacy:1", "registry.example/log:2"},
		built.at(t, "Deployment/legacy", "spec/template/spec/containers/image"))
	require.ElementsMatch(t, []any{"http", "more"}, built.at(t, "Service/checkout", "spec/ports/name"))
}

// Kinds without a namespace get none.
func TestNamespace(t *testing.T) {
	built := build(t, folder(t), "namespace: shop\n")
	require.Equal(t, []any{"shop"}, built.at(t, "Rollout/in-place", "metadata/namespace"))
	require.Equal(t, []any{"shop"}, built.at(t, "AnalysisTemplate/success-rate", "metadata/namespace"))
	for _, object := range []string{"MetricProvider/metrics", "ClusterAnalysisTemplate/latency", "PriorityClass/high"} {
		require.Empty(t, built.at(t, object, "metadata/namespace"))
	}
}

// ofNodes are kinds that nobody writes in Git.
var ofNodes = map[string]bool{"v1 Node": true, "v1 ComponentStatus": true, "storage.k8s.io/v1 CSINode": true}

// Every list that Kustomize merges by what it knows itself is merged by openapi.json in the same way.
func TestKubernetesKinds(t *testing.T) {
	var ours spec.Swagger
	require.NoError(t, json.Unmarshal(bytes(t, shipped+"/openapi.json"), &ours))
	openapi.ResetOpenAPI()
	own := mergedBy(t, ours.Definitions)
	require.NoError(t, openapi.SetSchema(nil, nil, true))
	theirs := mergedBy(t, openapi.Schema().Definitions)
	require.NotEmpty(t, theirs)
	compared := 0
	for kind, lists := range theirs {
		if strings.Contains(kind, "beta") || strings.HasSuffix(kind, "List") || ofNodes[kind] || isOfMetadataAlone(lists) {
			continue
		}
		compared++
		for path, by := range lists {
			if own[kind][path] != by {
				t.Errorf("%s %s: %q, not %q", kind, path, own[kind][path], by)
			}
		}
	}
	require.Greater(t, compared, 10)
	require.Equal(t, own["apps/v1 Deployment"][".spec.template.spec.containers"], own["serin.dev/v1alpha1 Rollout"][".spec.template.spec.containers"])
}

func isOfMetadataAlone(lists map[string]string) bool {
	for path := range lists {
		if !strings.Contains(path, ".metadata.") {
			return false
		}
	}
	return true
}

// mergedBy is how each kind's lists are merged, outside the status.
func mergedBy(t *testing.T, definitions spec.Definitions) map[string]map[string]string {
	t.Helper()
	found := map[string]map[string]string{}
	for _, definition := range definitions {
		kinds, _ := definition.Extensions["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 {
			continue
		}
		kind := kinds[0].(map[string]any)
		lists := map[string]string{}
		walk(definitions, definition, "", lists)
		delete(lists, "")
		found[strings.TrimPrefix(fmt.Sprintf("%v/%v %v", kind["group"], kind["version"], kind["kind"]), "/")] = lists
	}
	return found
}

func walk(definitions spec.Definitions, schema spec.Schema, path string, lists map[string]string) {
	if name := schema.Ref.String(); name != "" {
		// A definition of a definition, as that of a CustomResourceDefinition, has no end.
		if strings.Contains(name, "JSONSchemaProps") {
			return
		}
		extensions := schema.Extensions
		schema = definitions[strings.TrimPrefix(name, "#/definitions/")]
		if len(extensions) > 0 {
			schema.Extensions = extensions
		}
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		if strategy, ok := schema.Extensions["x-kubernetes-patch-strategy"]; ok {
			lists[path] = fmt.Sprint(strategy, " ", schema.Extensions["x-kubernetes-patch-merge-key"], " ", schema.Extensions["x-kubernetes-list-map-keys"])
		}
		walk(definitions, *schema.Items.Schema, path, lists)
	}
	for name, field := range schema.Properties {
		if name != "status" {
			walk(definitions, field, path+"."+name, lists)
		}
	}
}
