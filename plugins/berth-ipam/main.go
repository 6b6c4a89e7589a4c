// Berth-ipam is Berth's IPAM for other main plugins: they delegate to it by
// "ipam": {"type": "berth-ipam"}. Berth's own plugins have it built in.
package main

import "github.com/berth-cni/berth/pkg/cni"

func main() { cni.MainIPAM() }
