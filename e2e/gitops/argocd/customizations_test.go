package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/argo/normalizers"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"github.com/argoproj/argo-cd/v3/util/settings"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"
)

const (
	shipped = "../../../deploy/argocd"
	// customizations is laid out as Argo CD's own are.
	customizations = shipped + "/resource_customizations/serin.dev"
)

func text(t *testing.T, path ...string) string {
	t.Helper()
	bytes, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return string(bytes)
}

func read(t *testing.T, into any, path ...string) {
	t.Helper()
	require.NoError(t, yaml.UnmarshalStrict([]byte(text(t, path...)), into))
}

func object(t *testing.T, path ...string) *unstructured.Unstructured {
	t.Helper()
	bytes, err := yaml.YAMLToJSONStrict([]byte(text(t, append([]string{customizations}, path...)...)))
	require.NoError(t, err)
	var found unstructured.Unstructured
	require.NoError(t, found.UnmarshalJSON(bytes))
	return &found
}

// overrides is what Argo CD reads of its ConfigMap once these files are merged into it.
func overrides(t *testing.T, files ...string) map[string]v1alpha1.ResourceOverride {
	t.Helper()
	config := corev1.ConfigMap{Data: map[string]string{}}
	for _, file := range files {
		var patch corev1.ConfigMap
		read(t, &patch, shipped, file)
		require.Equal(t, "argocd-cm", patch.Name)
		for key, value := range patch.Data {
			config.Data[key] = value
		}
	}
	config.Name, config.Namespace, config.Labels = "argocd-cm", "argocd", map[string]string{"app.kubernetes.io/part-of": "argocd"}
	secret := corev1.Secret{ObjectMeta: config.ObjectMeta}
	secret.Name = "argocd-secret"
	found, err := settings.NewSettingsManager(t.Context(), fake.NewClientset(&config, &secret), "argocd").GetResourceOverrides()
	require.NoError(t, err)
	return found
}

func machine(t *testing.T) lua.VM {
	t.Helper()
	return lua.VM{ResourceOverrides: overrides(t, "argocd-cm.yaml")}
}

// The patch for Argo CD's ConfigMap holds the scripts; UPDATE_EXPECT=1 writes it anew.
func TestPatchIsFresh(t *testing.T) {
	var discovery actionTests
	read(t, &discovery, customizations, "Rollout/actions/action_test.yaml")
	actions := v1alpha1.ResourceActions{ActionDiscoveryLua: text(t, customizations, "Rollout/actions/discovery.lua")}
	for _, action := range discovery.DiscoveryTests[0].Result {
		actions.Definitions = append(actions.Definitions, v1alpha1.ResourceActionDefinition{
			Name: action.Name, ActionLua: text(t, customizations, "Rollout/actions", action.Name, "action.lua")})
	}
	scripts, err := yaml.Marshal(actions)
	require.NoError(t, err)
	data := map[string]string{
		"resource.customizations.actions.serin.dev_Rollout":         string(scripts),
		"resource.customizations.health.serin.dev_Rollout":          text(t, customizations, "Rollout/health.lua"),
		"resource.customizations.health.serin.dev_RolloutAction":    text(t, customizations, "RolloutAction/health.lua"),
		"resource.customizations.knownTypeFields.serin.dev_Rollout": "- field: spec.template.spec\n  type: core/v1/PodSpec\n",
	}
	patch, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]string{"name": "argocd-cm"}, "data": data})
	require.NoError(t, err)
	const head = "# Teaches Argo CD the health and the actions of Rollouts. Made of resource_customizations; see docs/tools.md.\n"
	path, fresh := filepath.Join(shipped, "argocd-cm.yaml"), head+string(patch)
	if os.Getenv("UPDATE_EXPECT") != "" {
		require.NoError(t, os.WriteFile(path, []byte(fresh), 0o644))
	}
	require.Equal(t, fresh, text(t, path))
}

// What Argo CD says of each state.
func TestHealth(t *testing.T) {
	vm := machine(t)
	for _, kind := range []string{"Rollout", "RolloutAction"} {
		var tests struct {
			Tests []struct {
				HealthStatus struct{ Status, Message string }
				InputPath    string
			}
		}
		read(t, &tests, customizations, kind, "health_test.yaml")
		states, err := os.ReadDir(filepath.Join(customizations, kind, "testdata"))
		require.NoError(t, err)
		require.Len(t, tests.Tests, len(states), "each state has its health")
		for _, test := range tests.Tests {
			t.Run(kind+"/"+test.InputPath, func(t *testing.T) {
				state := object(t, kind, test.InputPath)
				script, hasLibraries, err := vm.GetHealthScript(state)
				require.NoError(t, err)
				require.False(t, hasLibraries)
				health, err := vm.ExecuteHealthLua(state, script)
				require.NoError(t, err)
				require.Equal(t, test.HealthStatus.Status, string(health.Status))
				require.Equal(t, test.HealthStatus.Message, health.Message)
			})
		}
	}
}

type actionTests struct {
	DiscoveryTests []struct {
		InputPath string
		Result    []v1alpha1.ResourceAction
	}
	ActionTests []struct{ Action, InputPath, ExpectedOutputPath string }
}

// Which actions Argo CD offers in each state.
func TestDiscovery(t *testing.T) {
	vm := machine(t)
	var tests actionTests
	read(t, &tests, customizations, "Rollout/actions/action_test.yaml")
	require.NotEmpty(t, tests.DiscoveryTests)
	for _, test := range tests.DiscoveryTests {
		t.Run(test.InputPath, func(t *testing.T) {
			state := object(t, "Rollout/actions", test.InputPath)
			scripts, err := vm.GetResourceActionDiscovery(state)
			require.NoError(t, err)
			found, err := vm.ExecuteResourceActionDiscovery(state, scripts)
			require.NoError(t, err)
			require.ElementsMatch(t, test.Result, found)
		})
	}
}

// What each action creates.
func TestActions(t *testing.T) {
	var tests actionTests
	read(t, &tests, customizations, "Rollout/actions/action_test.yaml")
	require.NotEmpty(t, tests.ActionTests)
	for _, test := range tests.ActionTests {
		t.Run(test.Action, func(t *testing.T) {
			made := act(t, test.Action, test.InputPath)
			var wanted []struct {
				K8SOperation    string
				UnstructuredObj map[string]any
			}
			read(t, &wanted, customizations, "Rollout/actions", test.ExpectedOutputPath)
			require.Len(t, made, len(wanted))
			for i, one := range made {
				require.Equal(t, wanted[i].K8SOperation, string(one.K8SOperation))
				require.JSONEq(t, asJSON(t, wanted[i].UnstructuredObj), asJSON(t, one.UnstructuredObj.Object))
			}
		})
	}
}

// What may be asked for again and again has the time in its name.
func TestActionsThatComeAgain(t *testing.T) {
	for action, input := range map[string]string{
		"pause": "progressing.yaml", "resume": "paused-by-action.yaml", "restart": "healthy.yaml",
	} {
		made := act(t, action, "../testdata/"+input)
		require.Len(t, made, 1)
		require.Regexp(t, "^checkout-"+action+"-[0-9]{14}$", made[0].UnstructuredObj.GetName())
		spec, _, err := unstructured.NestedStringMap(made[0].UnstructuredObj.Object, "spec")
		require.NoError(t, err)
		require.Equal(t, action, spec["action"])
	}
}

func act(t *testing.T, action, input string) []lua.ImpactedResource {
	t.Helper()
	vm, state := machine(t), object(t, "Rollout/actions", input)
	definition, err := vm.GetResourceAction(state, action)
	require.NoError(t, err)
	made, err := vm.ExecuteResourceAction(state, definition.ActionLua, nil)
	require.NoError(t, err)
	return made
}

// A quantity that is written in another way is no difference.
func TestKnownTypes(t *testing.T) {
	normalizer, err := normalizers.NewKnownTypesNormalizer(overrides(t, "argocd-cm.yaml"))
	require.NoError(t, err)
	rollout := func(cpu any) *unstructured.Unstructured {
		state := object(t, "Rollout/testdata/healthy.yaml")
		containers := state.Object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["containers"].([]any)
		containers[0].(map[string]any)["resources"] = map[string]any{"requests": map[string]any{"cpu": cpu}}
		require.NoError(t, normalizer.Normalize(state))
		return state
	}
	require.Equal(t, rollout("100m"), rollout("0.1"))
	require.NotEqual(t, rollout("100m"), rollout("0.2"))
}

// What Serin writes into routes in Git is no difference; anything else in them is.
func TestRoutesInGit(t *testing.T) {
	normalizer, err := normalizers.NewIgnoreNormalizer(nil, overrides(t, "routes-in-git.yaml"), normalizers.IgnoreNormalizerOpts{})
	require.NoError(t, err)
	for kind, document := range map[string]string{
		"VirtualService":  `{apiVersion: networking.istio.io/v1, spec: {http: [{timeout: OTHER, route: [{destination: {host: a}, weight: 9SERIN}]}, {delegate: {name: b}}]}}`,
		"DestinationRule": `{apiVersion: networking.istio.io/v1, spec: {subsets: [{name: OTHER, labels: {app: a, serin.dev/revision-hash: SERIN}}, {name: b}]}}`,
		"HTTPRoute":       `{apiVersion: gateway.networking.k8s.io/v1, spec: {rules: [{name: OTHER, backendRefs: [{name: a, weight: 9SERIN}]}]}}`,
		"Service":         `{apiVersion: v1, spec: {selector: {app: OTHER, serin.dev/revision-hash: SERIN}}}`,
	} {
		normal := func(serin, other string) map[string]any {
			fields := map[string]any{"kind": kind, "metadata": map[string]any{"name": "checkout"}}
			written := strings.NewReplacer("SERIN", serin, "OTHER", other).Replace(document)
			require.NoError(t, yaml.Unmarshal([]byte(written), &fields))
			fields["kind"] = kind
			state := unstructured.Unstructured{Object: fields}
			require.NoError(t, normalizer.Normalize(&state))
			return state.Object
		}
		require.Equal(t, normal("1", "x"), normal("2", "x"), kind)
		require.NotEqual(t, normal("1", "x"), normal("1", "y"), kind)
	}
}

func asJSON(t *testing.T, value any) string {
	t.Helper()
	bytes, err := json.Marshal(value)
	require.NoError(t, err)
	return string(bytes)
}
