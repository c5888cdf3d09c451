package echo

import (
	"bufio"
	"fmt"
	"net"
	"time"
)

// serveLines answers each line of each connection until the process ends; one that drains accepts until it exits.
func (s Settings) serveLines(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go s.answerLines(connection)
	}
}

// answerLines answers by the pod's name and revision.
func (s Settings) answerLines(connection net.Conn) {
	defer connection.Close()
	for lines := bufio.NewScanner(connection); lines.Scan(); {
		time.Sleep(s.Delay)
		if _, err := fmt.Fprintf(connection, "%s %s\n", s.Pod, s.Revision); err != nil {
			return
		}
	}
}
