package load

import (
	"bytes"
	"net/http"

	"serin.dev/e2e/mesh/echo"
)

// finishCall makes a unary gRPC call and waits for its status, which comes last.
func (r *Result) finishCall(client *http.Client, target, host string) {
	request, err := http.NewRequest(http.MethodPost, "http://"+target+echo.Method, bytes.NewReader(echo.Framed("?")))
	if err != nil {
		r.Error = err.Error()
		return
	}
	request.Header.Set("Content-Type", echo.GRPC)
	request.Header.Set("TE", "trailers")
	answer, isWhole := r.ask(client, request, host)
	if !isWhole {
		return
	}
	// A proxy that answers in place of a pod sends nothing but headers.
	r.GRPC = answer.Trailer.Get(echo.GRPCStatus) + answer.Header.Get(echo.GRPCStatus)
	if r.GRPC == "" {
		r.Error = "no grpc-status"
	}
}
