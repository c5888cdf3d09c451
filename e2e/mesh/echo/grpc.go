package echo

import (
	"encoding/binary"
	"io"
	"net/http"
)

// How gRPC calls look as HTTP/2 requests: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
const (
	// Method is the unary method that every pod answers, whatever the message.
	Method = "/serin.mesh.Echo/Answer"
	// GRPC is the content type of a call and of its answer.
	GRPC = "application/grpc"
	// GRPCStatus is the header, or trailer, of the status that a call ends with.
	GRPCStatus = "Grpc-Status"
	// OK and Internal are such statuses.
	OK, Internal = "0", "13"
)

// Framed is a message as gRPC sends it: not compressed, behind its length.
func Framed(message string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// answerCall answers a call by one message, or by an error.
func (s Settings) answerCall(answer http.ResponseWriter, request *http.Request, fails bool) {
	_, _ = io.Copy(io.Discard, request.Body)
	answer.Header().Set("Content-Type", GRPC)
	status := Internal
	if !fails {
		status = OK
		_, _ = answer.Write(Framed(s.Pod + " " + s.Revision))
	}
	answer.Header().Set(http.TrailerPrefix+GRPCStatus, status)
}
