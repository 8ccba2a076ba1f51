//go:build tools

// Package tools pins the KWOK that the rig runs.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
