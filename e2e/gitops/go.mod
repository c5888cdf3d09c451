module serin.dev/e2e/gitops

go 1.26.0

require serin.dev/e2e/mesh v0.0.0

replace serin.dev/e2e/mesh => ../mesh
