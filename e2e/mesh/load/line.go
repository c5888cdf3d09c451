package load

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"
)

// finishLine opens a connection, sends a line, and waits for the one that a pod answers.
func (r *Result) finishLine(target string, timeout time.Duration) {
	line, err := askLine(target, timeout)
	if err != nil {
		r.Error = cause(err)
		return
	}
	pod, revision, found := strings.Cut(line, " ")
	if !found {
		r.Error = "no pod's line: " + line
		return
	}
	r.Status, r.Pod, r.Revision = http.StatusOK, pod, revision
}

func askLine(target string, timeout time.Duration) (string, error) {
	connection, err := net.DialTimeout("tcp", target, timeout)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	if _, err := connection.Write([]byte("?\n")); err != nil {
		return "", err
	}
	answer := bufio.NewScanner(connection)
	if answer.Scan() {
		return answer.Text(), nil
	}
	if err := answer.Err(); err != nil {
		return "", err
	}
	return "", errors.New("closed before an answer")
}
