package story

import (
	"reflect"
	"testing"
)

func TestWhatAnEarlierStoryLeftGoes(t *testing.T) {
	patch := replacing(map[string]any{"a": 1, "b": 2}, map[string]any{"b": 3, "c": 4})
	if want := map[string]any{"a": nil, "b": 3, "c": 4}; !reflect.DeepEqual(patch, want) {
		t.Errorf("%v, want %v", patch, want)
	}
}
