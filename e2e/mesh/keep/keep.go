// Package keep runs a program in the place of a kubelet: it is started again when something kills it, unless a file says that it is held.
package keep

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	look = 10 * time.Millisecond
	// patience is how long a program may take to end when this one does.
	patience = 200 * time.Millisecond
)

// Kept is a program by its name in a folder.
type Kept struct{ Dir, Name string }

func (k Kept) pidFile() string  { return filepath.Join(k.Dir, k.Name+".pid") }
func (k Kept) heldFile() string { return filepath.Join(k.Dir, k.Name+".held") }

// PID is the process id of the program, as it was started last.
func (k Kept) PID() (int, error) {
	text, err := os.ReadFile(k.pidFile())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// Kill ends the program at once; it is started again. One that has ended already is no error.
func (k Kept) Kill() error {
	pid, err := k.PID()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// Hold lets the program stay away once it is killed.
func (k Kept) Hold() error { return os.WriteFile(k.heldFile(), nil, 0o644) }

// Release lets it start again.
func (k Kept) Release() error {
	if err := os.Remove(k.heldFile()); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Command keeps a program running until the context is done, or until the program ends by itself.
func Command(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("keep", flag.ExitOnError)
	var k Kept
	flags.StringVar(&k.Dir, "dir", ".", "folder of its process id")
	flags.StringVar(&k.Name, "name", "", "name of its process id")
	contained := flags.Bool("contained", false, "to itself its process id is 1, as in a container, whenever it starts")
	_ = flags.Parse(arguments)
	if k.Name == "" || flags.NArg() == 0 {
		return errors.New("usage: mesh keep -dir DIR -name NAME -- PROGRAM ARGUMENT…")
	}
	// The program ends with the thread that started it, and so with this process, however that ends.
	runtime.LockOSThread()
	for ctx.Err() == nil {
		if _, err := os.Stat(k.heldFile()); err == nil {
			time.Sleep(look)
			continue
		}
		if err := k.once(ctx, flags.Args(), *contained); err != nil {
			return err
		}
	}
	return nil
}

// once runs the program once. That somebody killed it is no error.
func (k Kept) once(ctx context.Context, program []string, isContained bool) error {
	command := exec.Command(program[0], program[1:]...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if isContained {
		command.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	}
	if err := command.Start(); err != nil {
		return err
	}
	// Nobody reads half a number.
	whole := k.pidFile() + ".new"
	if err := errors.Join(os.WriteFile(whole, fmt.Appendln(nil, command.Process.Pid), 0o644), os.Rename(whole, k.pidFile())); err != nil {
		_ = command.Process.Kill()
		return errors.Join(err, command.Wait())
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	select {
	case err := <-ended:
		if status, is := command.ProcessState.Sys().(syscall.WaitStatus); is && status.Signaled() {
			return nil
		}
		return fmt.Errorf("%s ended by itself: %w", k.Name, errors.Join(err, errors.New("nobody killed it")))
	case <-ctx.Done():
	}
	// One that is stopped hears nothing else.
	_ = command.Process.Signal(syscall.SIGTERM)
	_ = command.Process.Signal(syscall.SIGCONT)
	select {
	case <-ended:
	case <-time.After(patience):
		_ = command.Process.Kill()
		<-ended
	}
	return nil
}
