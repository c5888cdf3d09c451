package pods

import (
	"encoding/json"
	"testing"
	"time"

	"serin.dev/e2e/mesh/echo"
)

func TestSettings(t *testing.T) {
	var p pod
	text := `{
		"metadata": {"name": "a", "labels": {"pod-template-hash": "1", "serin.dev/revision-hash": "2"},
			"annotations": {"mesh.serin.dev/drain": "3s", "mesh.serin.dev/fail": "0.5", "mesh.serin.dev/delay": "4ms"}},
		"spec": {"containers": [{}, {"ports": [{"containerPort": 8080}, {"containerPort": 9000}]}]},
		"status": {"podIP": "10.244.0.7"}}`
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	want := echo.Settings{
		Address: "10.244.0.7:8080", Lines: "10.244.0.7:9000", Pod: "a", Revision: "2", Drain: 3 * time.Second, Delay: 4 * time.Millisecond, Fail: 0.5, Inherited: true,
	}
	if got, can, err := p.settings(); got != want || !can || err != nil {
		t.Errorf("%+v %v %v", got, can, err)
	}
	p.Metadata.Annotations[annotationDrain] = "soon"
	if _, can, err := p.settings(); can || err == nil {
		t.Error("a wrong duration is taken")
	}
	p.Metadata.Annotations = nil
	p.Status.Address = ""
	if _, can, _ := p.settings(); can {
		t.Error("a pod without an address is started")
	}
}
