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
		{describeVirtualService, `{"metadata":{"name":"web"}}`, ""},
		{describeDestinationRule, `{"metadata":{"name":"d"},"spec":{"subsets":[{"name":"stable","labels":{"hash":"1"}}]}}`,
			"DestinationRule d: stable = 1"},
		{describeReplicaSet, `{"metadata":{"labels":{"serin.dev/revision-hash":"1"}},"spec":{"replicas":4},"status":{"readyReplicas":3}}`,
			"ReplicaSet 1: 4 wanted, 3 ready"},
		{describeReplicaSet, `{"metadata":{"name":"web-a"}}`, ""},
		{describeRollout, `{"status":{"phase":"Paused","step":"2/3","message":"waits"}}`, "Rollout: Paused 2/3 waits"},
	} {
		if _, line := want.describe(json.RawMessage(want.text)); line != want.line {
			t.Errorf("%s, want %s", line, want.line)
		}
	}
}
