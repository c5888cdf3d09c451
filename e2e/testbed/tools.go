//go:build tools

package main

// Istio's CustomResourceDefinitions come from this module's folder; no code of it is used.
import _ "istio.io/api/networking/v1"
