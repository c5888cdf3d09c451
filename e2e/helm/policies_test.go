package helm

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	guarded = "guarded"
	flux    = "system:serviceaccount:flux-system:kustomize-controller"
	ada     = "oidc:ada@example.com"
	grace   = "oidc:grace@example.com"
	linus   = "oidc:linus@example.com"
)

// guards are the values that turn every policy on, for one namespace.
var guards = []string{
	"gitOnly.enabled=true", "gitOnly.users={" + flux + "}", "gitOnly.groups={platform}", "actionRights.enabled=true",
	"fourEyes.enabled=true", "fourEyes.userPrefix=oidc:",
	`policies.namespaceSelector.matchLabels.kubernetes\.io/metadata\.name=` + guarded,
}

// roles are what people have: Ada and Grace release, Linus is on call, Grace may write what edit may, too.
const roles = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: releases, namespace: guarded}
rules:
- {apiGroups: [serin.dev], resources: [rolloutactions], verbs: [create]}
- {apiGroups: [serin.dev], resources: [rollouts], verbs: [approve, promote, promoteFull]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: on-call, namespace: guarded}
rules:
- {apiGroups: [serin.dev], resources: [rolloutactions], verbs: [create]}
- {apiGroups: [serin.dev], resources: [rollouts], resourceNames: [checkout], verbs: [abort]}
`

func TestPolicies(t *testing.T) {
	namespaces(t, "istio-system", guarded)
	kubectled(t, "", "apply", "--server-side", "--force-conflicts", "-k", "../../crds")
	arguments := []string{"install", "serin-guarded", chart, "-n", "serin-guarded", "--create-namespace", "--set", "name=serin-guarded,crds.install=false", "--wait", "--timeout", patience.String()}
	helmed(t, append(arguments, sets(guards)...)...)
	kubectled(t, roles, "apply", "-f", "-")
	for _, binding := range [][]string{
		{"flux", "--clusterrole=edit", "--user=" + flux},
		{"grace", "--clusterrole=edit", "--user=" + grace},
		{"platform", "--clusterrole=edit", "--group=platform"},
		{"releases", "--role=releases", "--user=" + ada, "--user=" + grace},
		{"on-call", "--role=on-call", "--user=" + linus},
	} {
		kubectled(t, "", append([]string{"create", "rolebinding", "-n", guarded}, binding...)...)
	}
	asked := func() (string, error) {
		return as(t, "admin", checkout("1", "", "[]"), "create", "--dry-run=server", "-f", "-")
	}
	for began := time.Now(); ; time.Sleep(time.Second / 5) {
		if _, err := asked(); err != nil {
			break
		}
		if time.Since(began) > patience {
			t.Fatal("the policies never come into force")
		}
	}
	controller := startController(t, "serin-guarded", "serin-guarded")
	t.Run("Git only", gitOnly)
	t.Run("rights to act", actionRights)
	t.Run("four eyes", fourEyes)
	t.Run("no author", noAuthor)
	t.Run("messages are those of the page", messagesAreThoseOfThePage)
	kubectled(t, "", "delete", "rollout", "checkout", "-n", guarded, "--as", flux, "--timeout", patience.String())
	controller.stop(t)
	helmed(t, "uninstall", "serin-guarded", "-n", "serin-guarded", "--wait", "--timeout", patience.String())
}

// refusals are what refused people read, which the page shows.
var refusals = map[string]string{}

// as is kubectl as somebody, in the namespace that is guarded.
func as(t *testing.T, who, input string, arguments ...string) (string, error) {
	t.Helper()
	arguments = append(arguments, "-n", guarded)
	if who != "admin" {
		arguments = append(arguments, "--as", who)
	}
	if who == "platform" {
		arguments = append(arguments, "--as-group", "platform")
	}
	return kubectl(t, input, arguments...)
}

// refused is as that must be refused by a policy of this name, with these words.
func refused(t *testing.T, policy, words, who, input string, arguments ...string) {
	t.Helper()
	out, err := as(t, who, input, arguments...)
	if err == nil || !strings.Contains(out, "ValidatingAdmissionPolicy 'serin-guarded-"+policy+"'") || !strings.Contains(out, words) {
		t.Errorf("%s, kubectl %s: %s", who, strings.Join(arguments, " "), out)
		return
	}
	_, message, _ := strings.Cut(out, "denied request: ")
	refusals[words] = message
}

// allowed is as that must not be refused.
func allowed(t *testing.T, who, input string, arguments ...string) {
	t.Helper()
	if out, err := as(t, who, input, arguments...); err != nil {
		t.Errorf("%s, kubectl %s: %s", who, strings.Join(arguments, " "), out)
	}
}

// checkout is a Rollout as Git has it: an image, an author, steps.
func checkout(image, author, steps string) string {
	return fmt.Sprintf(`
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata:
  name: checkout
  annotations: {serin.dev/git-author: %q}
spec:
  replicas: 2
  selector: {matchLabels: {app: checkout}}
  template:
    metadata: {labels: {app: checkout}}
    spec: {containers: [{name: app, image: "registry.example/checkout:%s"}]}
  strategy: {canary: {maxSurge: 1, maxUnavailable: 0, steps: %s}}
`, author, image, steps)
}

// action is a RolloutAction on the canary.
func action(revision, verb, by, step string) string {
	return fmt.Sprintf(`{"apiVersion": "serin.dev/v1alpha1", "kind": "RolloutAction", "metadata": {"generateName": "checkout-"},
		"spec": {"rollout": "checkout", "revision": %q, "action": %q, "by": %q, "step": %q}}`, revision, verb, by, step)
}

// release commits as Git would, and waits for a phase. It returns the canary's revision.
func release(t *testing.T, image, author, steps, phase string) string {
	t.Helper()
	allowed(t, flux, checkout(image, author, steps), "apply", "--server-side", "-f", "-")
	side := "canary"
	if phase == "Healthy" {
		side = "stable"
	}
	for _, path := range []string{".status." + side + ".image}=registry.example/checkout:" + image, ".status.phase}=" + phase} {
		kubectled(t, "", "wait", "rollout/checkout", "-n", guarded, "--for=jsonpath={"+path, "--timeout", patience.String())
	}
	return rollout{t, guarded}.field(".status.canary.hash")
}

func gitOnly(t *testing.T) {
	refused(t, "git-only", "Rollout checkout is declared in Git", grace, checkout("1", "", "[]"), "create", "-f", "-")
	release(t, "1", "", "[]", "Healthy")
	image := `{"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "evil"}]}}}}`
	for _, one := range []struct{ who, words, what string }{
		{grace, "oidc:grace@example.com may not update it here", "patch rollout checkout --type=merge -p " + strings.ReplaceAll(image, " ", "")},
		{grace, "may not update it here", "label rollout checkout team=evil"},
		{grace, "may not delete it here", "delete rollout checkout"},
		{grace, "the replicas of rollouts checkout", "scale rollout checkout --replicas=9"},
		{"admin", "admin may not update it here", "annotate --overwrite rollout checkout serin.dev/git-author=grace"},
		{"admin", "the status of rollouts is Serin's to write", `patch rollout checkout --subresource=status --type=merge -p {"status":{"message":"fine"}}`},
		{"admin", "may not update it here", `patch rollout checkout --type=merge -p {"metadata":{"finalizers":["a.example/b"]}}`},
		// Not even Serin changes what is declared, and Kubernetes' controllers do not either.
		{"system:serviceaccount:serin-guarded:serin-guarded", "may not update it here", "label rollout checkout team=evil"},
		{"system:serviceaccount:kube-system:generic-garbage-collector", "may not update it here", "label rollout checkout team=evil"},
	} {
		refused(t, "git-only", one.words, one.who, "", strings.Fields(one.what)...)
	}
	for _, kind := range []string{
		`{"kind": "AnalysisTemplate", "spec": {"metrics": [{"name": "a", "prometheus": {"query": "up"}}]}`,
		`{"kind": "ClusterAnalysisTemplate", "spec": {"metrics": [{"name": "a", "prometheus": {"query": "up"}}]}`,
		`{"kind": "MetricProvider", "spec": {"prometheus": {"address": "http://prometheus:9090"}}`,
		`{"kind": "NotificationChannel", "spec": {"slack": {"webhookUrl": {"name": "a", "key": "b"}}}`,
	} {
		object := kind + `, "apiVersion": "serin.dev/v1alpha1", "metadata": {"name": "mine"}}`
		refused(t, "git-only", "mine is declared in Git", "admin", object, "create", "--dry-run=server", "-f", "-")
	}
	for _, one := range []struct{ who, what string }{
		{"platform", "label rollout checkout team=shop --dry-run=server"},
		{"platform", "scale rollout checkout --replicas=3 --dry-run=server"},
		{"platform", "delete rollout checkout --dry-run=server"},
		{flux, "delete rollout checkout --dry-run=server"},
		// A write that changes nothing, as one that migrates what is stored.
		{"admin", `patch rollout checkout --type=merge -p {"spec":{"replicas":2}}`},
		{"system:serviceaccount:kube-system:namespace-controller", "delete rollout checkout --dry-run=server"},
		{"system:serviceaccount:kube-system:generic-garbage-collector", `patch rollout checkout --dry-run=server --type=merge -p {"metadata":{"finalizers":["a.example/b"]}}`},
	} {
		allowed(t, one.who, "", strings.Fields(one.what)...)
	}
	scale := `{"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "checkout", "namespace": "guarded"}, "spec": {"replicas": 3}}`
	path := "/apis/serin.dev/v1alpha1/namespaces/guarded/rollouts/checkout/scale?dryRun=All"
	allowed(t, "system:serviceaccount:kube-system:horizontal-pod-autoscaler", scale, "replace", "--raw", path, "-f", "-")
	// Where the policy does not hold, nothing is refused.
	if out, err := kubectl(t, checkout("1", "", "[]"), "create", "--dry-run=server", "-n", "default", "-f", "-"); err != nil {
		t.Error(out)
	}
}

func actionRights(t *testing.T) {
	revision := release(t, "2", "Ada Lovelace <ada@example.com>", "[{approval: {name: signoff}}]", "Paused")
	for what, want := range map[string]bool{
		linus + " abort rollouts.serin.dev/checkout -n guarded": true, linus + " promote rollouts.serin.dev/checkout -n guarded": false,
		linus + " abort rollouts.serin.dev/cart -n guarded": false, ada + " promoteFull rollouts.serin.dev/checkout -n guarded": true,
		ada + " abort rollouts.serin.dev/checkout -n guarded": false, grace + " abort rollouts.serin.dev/checkout -n guarded": true,
		grace + " retry rollouts.serin.dev/checkout -n guarded": false, grace + " abort rollouts.serin.dev/checkout -n default": false,
	} {
		who, asked, _ := strings.Cut(what, " ")
		out, err := kubectl(t, "", append([]string{"auth", "can-i", "--as", who}, strings.Fields(asked)...)...)
		if (err == nil) != want {
			t.Errorf("%s: %s", what, out)
		}
		refusals["can-i "+what] = strings.TrimSpace(out)
	}
	refused(t, "action-rights", "may not promote Rollout checkout", linus, action(revision, "promote", linus, "0"), "create", "-f", "-")
	allowed(t, linus, action(revision, "abort", linus, ""), "create", "--dry-run=server", "-f", "-")
	refused(t, "action-rights", "may not retry", grace, action(revision, "retry", grace, ""), "create", "-f", "-")
}

// answered creates an action and waits for its answer.
func answered(t *testing.T, who, object string) (accepted, message string) {
	t.Helper()
	name, err := as(t, who, object, "create", "-o", "name", "-f", "-")
	if err != nil {
		t.Fatalf("%s: %s", who, name)
	}
	kubectled(t, "", "wait", name, "-n", guarded, "--for=jsonpath={.status.message}", "--timeout", patience.String())
	var one struct {
		Status struct {
			Accepted bool
			Message  string
		}
	}
	if err := json.Unmarshal([]byte(kubectled(t, "", "get", name, "-n", guarded, "-o", "json")), &one); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(one.Status.Accepted), one.Status.Message
}

func fourEyes(t *testing.T) {
	revision := rollout{t, guarded}.field(".status.canary.hash")
	refused(t, "requesters", "spec.by of a RolloutAction is who creates it", grace, action(revision, "approve", ada, "signoff"), "create", "-f", "-")
	nameless := strings.Replace(action(revision, "abort", grace, ""), `"by"`, `"reason"`, 1)
	refused(t, "requesters", "set it to oidc:grace@example.com", grace, nameless, "create", "-f", "-")
	refused(t, "four-eyes", "is a change by ada@example.com", ada, action(revision, "approve", ada, "signoff"), "create", "-f", "-")
	refused(t, "four-eyes", "who may not promoteFull it", ada, action(revision, "promoteFull", ada, ""), "create", "-f", "-")
	refused(t, "four-eyes", "revision abcdefghij is not the canary", grace, action("abcdefghij", "approve", grace, "signoff"), "create", "-f", "-")
	if accepted, message := answered(t, grace, action(revision, "approve", grace, "signoff")); accepted != "true" {
		t.Error(message)
	}
	kubectled(t, "", "wait", "rollout/checkout", "-n", guarded, "--for=jsonpath={.status.phase}=Healthy", "--timeout", patience.String())
	r := rollout{t, guarded}
	r.is(".status.stable.image", "registry.example/checkout:2")
	r.is(`.status.decisions[?(@.what=="Approve signoff")].by`, grace)
}

func noAuthor(t *testing.T) {
	steps := "[{approval: {name: signoff}}, {approval: {name: release, approvers: 2}}]"
	revision := release(t, "3", "", steps, "Paused")
	refused(t, "four-eyes", "nobody is on record as the author", grace, action(revision, "approve", grace, "signoff"), "create", "-f", "-")
	if accepted, message := answered(t, grace, action(revision, "approve", grace, "release")); accepted != "true" || !strings.Contains(message, "release has 1 of 2 approvals") {
		t.Error(message)
	}
	accepted, message := answered(t, grace, action(revision, "approve", grace, "release"))
	if accepted != "false" || !strings.Contains(message, "another person must give the next") {
		t.Error(message)
	}
	refusals["has approved release already"] = message
	if accepted, message := answered(t, ada, action(revision, "approve", ada, "release")); accepted != "true" || !strings.Contains(message, "release is approved") {
		t.Error(message)
	}
	// An author who cannot be compared with a user is none.
	revision = release(t, "4", "Ada", steps, "Paused")
	refused(t, "four-eyes", "the author ada of revision", ada, action(revision, "approve", ada, "signoff"), "create", "-f", "-")
}

// messagesAreThoseOfThePage compares what docs/policies.md shows with what was read, but for revisions.
func messagesAreThoseOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{
		"may not delete it here", "may not promote Rollout checkout", "spec.by of a RolloutAction is who creates it",
		"is a change by ada@example.com", "nobody is on record as the author", "has approved release already",
	} {
		message, isThere := refusals[words]
		before, after, _ := strings.Cut(message, "revision ")
		_, rest, _ := strings.Cut(after, " ")
		for _, part := range []string{before, rest} {
			if !isThere || !strings.Contains(string(page), strings.TrimSpace(part)) {
				t.Errorf("docs/policies.md does not show %q", message)
			}
		}
	}
	for what, words := range refusals {
		t.Logf("%s: %s", what, words)
	}
}
