// Build builds programs of Kubernetes for the tests, those that are not there yet, one
// after the other: with nothing cached kube-apiserver takes 900 seconds of CPU.
//
//	go run ./kubernetes/build kube-apiserver
package main

import (
	"fmt"
	"os"

	"github.com/berth-cni/berth/integration/kubernetes"
)

func main() {
	if err := kubernetes.Build(os.Stdout, os.Args[1:]...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
