package story

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestEveryStoryIsWhole(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range stories {
		if seen[s.name] || s.tell == nil {
			t.Errorf("%s is there twice, or tells nothing", s.name)
		}
		seen[s.name] = true
		if !strings.Contains(string(readme), "`"+s.name+"`") {
			t.Errorf("%s is not in e2e/README.md", s.name)
		}
		if found, err := find(s.name); err != nil || found.name != s.name {
			t.Error(found.name, err)
		}
	}
	if _, err := find("x"); err == nil {
		t.Error("x is a story")
	}
}

func TestAWorldIsThatOfItsStory(t *testing.T) {
	w := newWorld()
	w.setting.canary = object{"scaleDownDelaySeconds": 5}
	w.of(story{canary: dynamic, steps: stopping(50), lines: true}, hosts, drains)
	want := setting{
		mode: hosts, steps: []any{setWeight(20), setWeight(50), untilPromoted, setWeight(80)}, lines: true,
		canary:      object{"scaleDownDelaySeconds": 5, "dynamicStableScale": true},
		annotations: object{"mesh.serin.dev/drain": "2s"},
	}
	if !reflect.DeepEqual(w.setting, want) {
		t.Errorf("%+v", w.setting)
	}
	if got := len(w.load(appHost, 1).Targets); got != 2 {
		t.Errorf("%d proxies take connections", got)
	}
	w = newWorld().of(story{}, owned, exits)
	if !reflect.DeepEqual(w.setting.steps, weights(20, 50, 80)) || len(w.setting.annotations) != 0 || len(dynamic) != 1 {
		t.Errorf("%+v", w.setting)
	}
	if got := newWorld().of(story{}, httpRoute, exits).load(appHost, 1).Targets[0]; got != "127.0.0.100:8101" {
		t.Error(got)
	}
	w.only = "client"
	if asked := w.asked(); len(asked) != 1 || asked[0].name != "client" {
		t.Error(asked)
	}
}

func TestPodsByRevision(t *testing.T) {
	var a, b, c pod
	a.Metadata.Labels = map[string]string{"serin.dev/revision-hash": "1", "pod-template-hash": "2"}
	b.Metadata.Labels = map[string]string{"pod-template-hash": "2"}
	b.Status.Conditions = append(b.Status.Conditions, struct {
		Type   string `json:"type"`
		Status string `json:"status"`
	}{"Ready", "True"})
	if count := byHash([]pod{a, b, c}); !reflect.DeepEqual(count, map[string]int{"1": 1, "2": 1, "": 1}) || ready([]pod{a, b, c}) != 1 {
		t.Error(count)
	}
}

func TestStableHasShrunk(t *testing.T) {
	r := &rollout{}
	r.Status.Canary.Observed = 80
	for pods, want := range map[int]bool{1: true, 2: false, 4: false} {
		r.Status.Stable.Replicas = pods
		if (setting{canary: dynamic}).hasShrunk(r) != want || !(setting{}).hasShrunk(r) {
			t.Errorf("%d pods at 80", pods)
		}
	}
}
