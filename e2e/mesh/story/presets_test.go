package story

import (
	"testing"
	"time"

	"serin.dev/e2e/mesh/load"
)

func TestMeasurementsAreComparedWithTheirWindow(t *testing.T) {
	now := time.Now()
	var results []load.Result
	for n := range 400 {
		status := 200
		if n%4 == 0 {
			status = 500
		}
		// Ten a second, 40 s of them.
		results = append(results, load.Result{At: now.Add(-time.Duration(n) * 100 * time.Millisecond), Revision: "c2", Status: status, Millis: 60})
	}
	hashes := map[string]string{"canary": "c2", "stable": "s1"}
	of := func(name, value string) comparison {
		compared, err := compare(name, measurement{At: now, Value: value}, results, hashes)
		if err != nil {
			t.Fatal(err)
		}
		return compared
	}
	for name, value := range map[string]string{"success-canary-istio": "0.75", "rate-canary-envoy": "10", "duration-canary-istio": "97.5", "gate": "0.75"} {
		if compared := of(name, value); !compared.isRight() {
			t.Errorf("%s", compared)
		}
	}
	if compared := of("success-canary-istio", "0.85"); compared.isRight() {
		t.Errorf("%s", compared)
	}
	if _, err := compare("success-stable-istio", measurement{At: now, Value: "1"}, results, hashes); err == nil {
		t.Error("stable had no request")
	}
	if _, err := compare("gate", measurement{At: now, Value: "no data"}, results, hashes); err == nil {
		t.Error("no data is no number")
	}
}
