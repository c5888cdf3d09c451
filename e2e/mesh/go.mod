module serin.dev/e2e/mesh

go 1.26.0
