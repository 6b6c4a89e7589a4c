// Command failing is the last plugin of the tests' chain. It hands the result on,
// and fails the ADD of a pod named "failing", so that what the plugins before it
// made has to go again.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/version"
)

func main() {
	verb := os.Getenv("CNI_COMMAND")
	if verb == "VERSION" {
		_ = version.All.Encode(os.Stdout)
		return
	}
	if verb == "ADD" && strings.Contains(os.Getenv("CNI_ARGS")+";", "K8S_POD_NAME=failing;") {
		fmt.Println(`{"cniVersion": "1.0.0", "code": 199, "msg": "this pod is to fail"}`)
		os.Exit(1)
	}
	var conf struct{ PrevResult json.RawMessage }
	if err := json.NewDecoder(os.Stdin).Decode(&conf); err != nil {
		fmt.Fprintln(os.Stderr, "failing:", err)
		os.Exit(1)
	}
	if verb == "ADD" {
		fmt.Printf("%s\n", conf.PrevResult)
	}
}
