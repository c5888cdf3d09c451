package story

import "testing"

func TestEchoProcess(t *testing.T) {
	for line, want := range map[string]bool{
		"/proc/self/exe\x00echo\x00-listen\x00a\x00-pod\x00p-1\x00": true,
		"/proc/self/exe\x00echo\x00-pod\x00p-11\x00":                false,
		"grep\x00-pod\x00p-1\x00":                                   false,
		"":                                                          false,
	} {
		if isEchoOf([]byte(line), "p-1") != want {
			t.Errorf("%q", line)
		}
	}
}
