package keep

import (
	"context"
	"testing"
	"time"
)

// started waits until the program runs with another process id than before.
func started(t *testing.T, k Kept, before int) int {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if pid, err := k.PID(); err == nil && pid != before {
			return pid
		}
	}
	t.Fatal("it was not started")
	return 0
}

func TestKilledIsStartedAgainUnlessHeld(t *testing.T) {
	k := Kept{Dir: t.TempDir(), Name: "sleeper"}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Command(ctx, []string{"-dir", k.Dir, "-name", k.Name, "--", "sleep", "60"}) }()
	first := started(t, k, 0)
	if err := k.Kill(); err != nil {
		t.Fatal(err)
	}
	second := started(t, k, first)
	if err := k.Hold(); err != nil {
		t.Fatal(err)
	}
	if err := k.Kill(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if pid, err := k.PID(); pid != second || err != nil {
		t.Errorf("it was held, and runs as %d (%v)", pid, err)
	}
	if err := k.Kill(); err != nil {
		t.Errorf("killed twice: %v", err)
	}
	if err := k.Release(); err != nil {
		t.Fatal(err)
	}
	started(t, k, second)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestOneThatEndsByItselfIsAnError(t *testing.T) {
	for _, program := range []string{"true", "false"} {
		if Command(context.Background(), []string{"-dir", t.TempDir(), "-name", program, "--", program}) == nil {
			t.Errorf("%s ended, and nobody says so", program)
		}
	}
}
