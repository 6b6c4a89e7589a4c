// noop is a CNI plugin that does nothing: what a runtime pays for any plugin.
package main

import "os"

func main() {
	switch os.Getenv("CNI_COMMAND") {
	case "ADD":
		os.Stdout.WriteString(`{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/16"}]}`)
	case "VERSION":
		os.Stdout.WriteString(`{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}`)
	}
}
