package story

import (
	"encoding/json"
	"testing"
)

func TestDescriptions(t *testing.T) {
	for _, want := range []struct {
		describe   func(json.RawMessage) (string, string)
		text, line string
	}{
		{describeVirtualService, `{"metadata":{"name":"v"},"spec":{"http":[{"route":[
			{"destination":{"subset":"stable"},"weight":80},{"destination":{"subset":"canary"},"weight":20}]}]}}`,
			"VirtualService v: stable 80, canary 20"},
		{describeVirtualService, `{"metadata":{"name":"v"},"spec":{"http":[{"name":"a","route":[{"destination":{"host":"h"}}]},
			{"delegate":{"name":"d"}}],"tcp":[{"route":[{"destination":{"host":"t"},"weight":5}]}]}}`,
			"VirtualService v: a h 0; delegates to d; t 5"},
		{describeService, `{"metadata":{"name":"s"},"spec":{"selector":{"serin.dev/revision-hash":"1"}}}`, "Service s = 1"},
		{describeService, `{"metadata":{"name":"s"}}`, ""},
		{describeVirtualService, `{"metadata":{"name":"web"}}`, ""},
		{describeDestinationRule, `{"metadata":{"name":"d"},"spec":{"subsets":[{"name":"stable","labels":{"hash":"1"}}]}}`,
			"DestinationRule d: stable = 1"},
		{describeReplicaSet, `{"metadata":{"labels":{"app":"checkout","serin.dev/revision-hash":"1"}},"spec":{"replicas":4},"status":{"readyReplicas":3}}`,
			"ReplicaSet 1: 4 wanted, 3 ready"},
		{describeReplicaSet, `{"metadata":{"name":"web-a"}}`, ""},
		{describeRollout, `{"status":{"phase":"Paused","step":"2/3","message":"waits"}}`, "Rollout: Paused 2/3 waits"},
	} {
		if _, line := want.describe(json.RawMessage(want.text)); line != want.line {
			t.Errorf("%s, want %s", line, want.line)
		}
	}
}
