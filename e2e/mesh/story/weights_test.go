package story

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"serin.dev/e2e/mesh/load"
)

func TestWeights(t *testing.T) {
	for text, want := range map[string]map[string]int{
		`{"weighted_clusters":{"clusters":[{"name":"outbound|80|a|h","weight":90},{"name":"outbound|80|b|h","weight":10}]}}`: {"a": 90, "b": 10},
		`{"cluster":"outbound|80|a|h"}`: {"a": 100},
	} {
		var d dump
		text := `{"configs":[{"route_config":{"virtual_hosts":[
			{"domains":["other"],"routes":[{"route":{"cluster":"outbound|80|c|other"}}]},
			{"domains":["h","h:80"],"routes":[{"route":` + text + `}]}]}}]}`
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		if got := d.weights("h"); !reflect.DeepEqual(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

func TestLastOld(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }
	results := []load.Result{
		{At: at(0), Revision: "a"},
		{At: at(1100), Revision: "a", Duration: 20 * time.Millisecond},
		{At: at(1110), Revision: "b"},
		{At: at(1500), Revision: "b"},
		{At: at(2050), Revision: "b"},
		{At: at(2060), Revision: "a"},
	}
	got := lastOld([]flip{{at: at(1000), old: "a"}, {at: at(2000), old: "b"}}, results)
	if !reflect.DeepEqual(got, []int64{120, 50}) {
		t.Error(got)
	}
}
